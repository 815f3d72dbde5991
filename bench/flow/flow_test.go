package flow

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is sent arrives and is counted, one by one and in bundles.
func TestLoopback(t *testing.T) {
	for _, c := range []struct {
		name string
		mix  Mix
		gso  bool
		to   string
	}{
		{"64 octets", Mix{64}, false, "127.0.0.1"},
		{"mixed", IMIX, false, "127.0.0.1"},
		{"64 octets, GSO", Mix{64}, true, "127.0.0.1"},
		{"1,300 octets, GSO", Mix{1300}, true, "127.0.0.1"},
		{"IPv6", Mix{100}, true, "::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Listen(netip.AddrPortFrom(netip.MustParseAddr(c.to), 0))
			if errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Skip("no IPv6 loopback")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var got Received
			ended := make(chan error, 1)
			go func() {
				var err error
				got, err = r.Run(ctx, 3*time.Second)
				ended <- err
			}()
			sent, err := Send(ctx, SendConfig{To: r.Addr(), Mix: c.mix, GSO: c.gso, Rate: 20000, Duration: 300 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if sent.Packets == 0 || got.Packets != sent.Packets || got.Highest != sent.Packets || got.Late+got.Twice+got.Foreign != 0 {
				t.Errorf("sent %+v, got %+v", sent, got)
			}
			if l := r.Latency("x"); l.Count == 0 || l.Min <= 0 {
				t.Errorf("latency %+v", l)
			}
		})
	}
}

// The tally knows late from lost from doubled, in any order.
func TestTally(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var got tally
		seen := make(map[uint64]bool)
		var want Received
		at := uint64(0)
		for range 3000 {
			number := at
			switch rng.IntN(10) {
			case 0: // some were lost
				at += uint64(rng.IntN(2000))
				number = at
				at++
			case 1: // an earlier one, maybe once more
				number -= min(number, uint64(rng.IntN(1000)))
			default:
				at++
			}
			want.Packets++
			if number < want.Highest {
				want.Late++
				if seen[number] && want.Highest-number <= 1024 {
					want.Twice++
				}
			}
			want.Highest = max(want.Highest, number+1)
			at = max(at, want.Highest)
			seen[number] = true
			got.take(number)
		}
		if got.Received != want {
			t.Fatalf("%+v, want %+v", got.Received, want)
		}
	}
}

func TestMix(t *testing.T) {
	if err := IMIX.Validate(); err != nil || len(IMIX) != 12 {
		t.Error(err)
	}
	count := make(map[int]int)
	for _, n := range IMIX {
		count[n]++
	}
	if count[64] != 7 || count[594] != 4 || count[1400] != 1 || IMIX.Mean() < 351 || IMIX.Mean() > 353 {
		t.Errorf("%v, mean %v", count, IMIX.Mean())
	}
	for _, bad := range []Mix{{}, {10}, {64, 100000}} {
		if bad.Validate() == nil {
			t.Errorf("%v is a mix", bad)
		}
	}
}
