package dhcp

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	for i := range perSource {
		if r := l.allow(now, device); r != ReasonNone {
			t.Fatalf("message %d: %v", i, r)
		}
	}
	if r := l.allow(now, device); r != ReasonRate {
		t.Errorf("one more: %v", r)
	}
	if r := l.allow(now, server); r != ReasonNone {
		t.Errorf("another device pays for it: %v", r)
	}
	if r := l.allow(now.Add(window), device); r != ReasonNone {
		t.Errorf("in the next window: %v", r)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	for i := range maxSources {
		if r := l.allow(now, netip.AddrFrom4([4]byte{10, 98, byte(i >> 8), byte(i)})); r != ReasonNone {
			t.Fatalf("source %d: %v", i, r)
		}
	}
	if r := l.allow(now, netip.MustParseAddr("10.99.0.1")); r != ReasonSources || len(l.count) != maxSources {
		t.Errorf("%v, %d sources", r, len(l.count))
	}
	if r := l.allow(now, netip.MustParseAddr("10.98.0.1")); r != ReasonNone {
		t.Errorf("a known source: %v", r)
	}
}
