package inventorytest

import (
	"testing"

	"github.com/roamgate/roamgate/dmlink/inventory"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) inventory.Store { return NewMemory() })
}
