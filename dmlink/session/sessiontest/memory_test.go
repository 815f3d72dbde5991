package sessiontest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Feeder { return NewMemory() })
}
