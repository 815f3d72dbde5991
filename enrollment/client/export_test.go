package client

import (
	"testing"
	"time"
)

func init() { firstPause = time.Millisecond }

// OfferVersions in this test.
func OfferVersions(t *testing.T, offered ...int) {
	before := versions
	versions = offered
	t.Cleanup(func() { versions = before })
}
