package enrolling

import (
	"context"
	"errors"
	"testing"

	"github.com/roamgate/roamgate/enrollment/client"
)

// Each operation works and takes some time; how much is not a test's business.
func TestBare(t *testing.T) {
	costs, err := Bare(t.Context(), client.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	if len(costs) != 6 || Sum(costs) <= 0 {
		t.Errorf("%v", costs)
	}
	for _, c := range costs {
		if c.Each <= 0 {
			t.Errorf("%s costs %v", c.Name, c.Each)
		}
	}
}

func TestBareEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bare(ctx, client.ECDSAP256); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
