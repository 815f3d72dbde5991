package gate

import (
	"testing"
	"time"
)

// Who is given the keys makes the cookies that a gate makes, at any time of a
// period.
func TestSharedKeysAreTheGates(t *testing.T) {
	secret := Secret{5, 6, 7}
	for _, passed := range []time.Duration{0, time.Second, cookiePeriod - 1, cookiePeriod} {
		at := start.Add(passed)
		own := newCookieKeys(&secret, cookiePeriodAt(at))
		current, keys := CookieKeys(&secret, at)
		if current != uint64(own.period) || keys[1].Period != current || keys[0].Period != current-1 || keys[2].Period != current+1 {
			t.Fatalf("periods %d, %+v; the gate's is %d", current, keys, own.period)
		}
		if keys[0].Key != own.previous || keys[1].Key != own.current {
			t.Error("keys aren't the gate's")
		}
		if next := newCookieKeys(&secret, own.period+1); keys[2].Key != next.current {
			t.Error("the key of the next period isn't the gate's")
		}
	}
}
