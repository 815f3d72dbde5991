package enroll

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// TestLimitsAreBounded: as many sources as somebody has addresses.
func TestLimitsAreBounded(t *testing.T) {
	l := newLimits(2, time.Minute, 100)
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	address := func(i int) netip.Addr {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i))
		return netip.AddrFrom4(a)
	}
	for i := range 10_000 {
		l.spend(address(i), now)
	}
	if n := l.len(); n != 100 {
		t.Errorf("%d sources", n)
	}
	// Those without room share a bucket; those that have one don't.
	if l.wait(address(50), now) != 0 || l.wait(address(5000), now) == 0 || l.wait(address(1<<30), now) == 0 {
		t.Error("the bucket of all others isn't shared, or takes in those with their own")
	}
	l.spend(address(50), now)
	if got := l.wait(address(50), now); got != time.Minute {
		t.Errorf("after the burst: wait %s", got)
	}
	// Whoever goes on while it has to wait doesn't wait forever.
	for range 1000 {
		l.spend(address(50), now)
	}
	if got := l.wait(address(50), now); got > 4*time.Minute {
		t.Errorf("wait %s", got)
	}
	later := now.Add(5 * time.Minute)
	l.spend(address(1<<20), later)
	if n := l.len(); n != 1 {
		t.Errorf("%d sources after all buckets are full again", n)
	}
	if l.wait(netip.Addr{}, later) != 0 {
		t.Error("no address at all is limited at once")
	}
}
