package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		live uint64
		rate float64 // in octets a second
		want int
	}{
		// A storm: the floor, or as much as lives.
		{0, 50 * mib, maxPercent}, {mib, 50 * mib, maxPercent}, {16 * mib, 50 * mib, 400},
		{64 * mib, 50 * mib, defaultPercent}, {1024 * mib, 50 * mib, defaultPercent},
		// A handshake a second, and nothing at all.
		{128 * mib, 50 << 10, quietPercent}, {512 * mib, 0, quietPercent}, {16 * mib, 0, 25},
		// In between: 2 MiB a second for the 30 s in which collecting 300 MiB takes 1 %.
		{307 * mib, 2 * mib, 19},
	} {
		if got := percentFor(64*mib, test.live, test.rate); got != test.want {
			t.Errorf("%d MiB live, %v octets a second: %d %%, want %d", test.live/mib, test.rate, got, test.want)
		}
	}
}

var ballast []byte

// With little that lives and much to do garbage may gather; with much that lives
// and nothing to do hardly any, and nothing remains after the end.
func TestLetGarbageGather(t *testing.T) {
	before := debug.SetGCPercent(defaultPercent)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "100")
	runtime.GC()
	letGarbageGather()()
	if p := debug.SetGCPercent(defaultPercent); p != defaultPercent {
		t.Errorf("%d %% although GOGC is set", p)
	}
	c := newCollector(256 << 20)
	c.afterCollection()
	if p := current(); p <= defaultPercent {
		t.Errorf("%d %% with little that lives", p)
	}
	ballast = make([]byte, 512<<20)
	defer func() { ballast = nil; runtime.GC() }()
	for deadline := time.Now().Add(30 * time.Second); current() > quietPercent; {
		if time.Now().After(deadline) {
			t.Fatalf("%d %% with 512 MiB that live and nothing to do", current())
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run after it
	}
	c.stop()
}

// current percentage.
func current() int {
	p := debug.SetGCPercent(defaultPercent)
	debug.SetGCPercent(p)
	return p
}
