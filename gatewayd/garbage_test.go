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
	defer c.stop()
	c.begin()
	if p := current(); p <= defaultPercent {
		t.Errorf("%d %% with little that lives", p)
	}
	ballast = make([]byte, 512<<20)
	defer func() { ballast = nil; runtime.GC() }()
	runtime.GC()
	at := time.Now()
	for n := range quietLooks + 2 {
		r := take()
		at = at.Add(time.Minute)
		r.at = at
		// The first one sees the ballast come; so the second is the first that is quiet.
		if giveBack := c.look(r, false); giveBack != (n == quietLooks) {
			t.Errorf("look %d: memory is given back: %v", n, giveBack)
		}
	}
	if p := current(); p > quietPercent {
		t.Errorf("%d %% with 512 MiB that live and nothing to do", p)
	}
	// Collections that somebody asks for are none of much garbage.
	for range 5 {
		r := take()
		at = at.Add(time.Millisecond)
		r.at, r.forced, r.allocated = at, c.last.forced+1, r.allocated+10<<20
		c.look(r, true)
	}
	if p := current(); p > quietPercent {
		t.Errorf("%d %% after collections that were forced", p)
	}
	// The runtime's own are, and then the memory is given back once more.
	r := take()
	at = at.Add(time.Millisecond)
	r.at, r.forced, r.allocated = at, c.last.forced, r.allocated+100<<20
	c.look(r, true)
	if p := current(); p != defaultPercent {
		t.Errorf("%d %% in a storm", p)
	}
	for n := range quietLooks + 1 {
		at = at.Add(time.Minute)
		r.at = at
		if giveBack := c.look(r, false); giveBack != (n == quietLooks-1) {
			t.Errorf("look %d after the storm: memory is given back: %v", n, giveBack)
		}
	}
}

// A collector is told of collections by the runtime until it is stopped.
func TestCollectorIsTold(t *testing.T) {
	before := debug.SetGCPercent(defaultPercent)
	defer debug.SetGCPercent(before)
	c := newCollector(64 << 20)
	c.begin()
	c.mark()
	defer c.stop()
	told := func() uint64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.last.forced
	}
	for deadline := time.Now().Add(30 * time.Second); told() < take().forced || told() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("a collection that it wasn't told of")
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run after it
	}
}

// current percentage.
func current() int {
	p := debug.SetGCPercent(defaultPercent)
	debug.SetGCPercent(p)
	return p
}
