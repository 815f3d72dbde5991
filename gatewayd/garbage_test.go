package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, maxPercent}, {1 << 20, maxPercent}, {16 << 20, 400}, {64 << 20, defaultPercent}, {1 << 30, defaultPercent},
	} {
		if got := percentFor(64<<20, test.live); got != test.want {
			t.Errorf("%d MiB live: %d %%, want %d", test.live>>20, got, test.want)
		}
	}
}

var ballast []byte

// With little that lives garbage may gather; with much nothing is different from
// Go's own way, and nothing remains after the end.
func TestLetGarbageGather(t *testing.T) {
	before := debug.SetGCPercent(defaultPercent)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "100")
	runtime.GC()
	letGarbageGather()()
	if p := debug.SetGCPercent(defaultPercent); p != defaultPercent {
		t.Errorf("%d %% although GOGC is set", p)
	}
	c := &collector{floor: 256 << 20, percent: defaultPercent}
	c.afterCollection()
	if p := current(); p <= defaultPercent {
		t.Errorf("%d %% with little that lives", p)
	}
	ballast = make([]byte, 512<<20)
	defer func() { ballast = nil; runtime.GC() }()
	for deadline := time.Now().Add(30 * time.Second); current() != defaultPercent; {
		if time.Now().After(deadline) {
			t.Fatalf("%d %% with 512 MiB that live", current())
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run after it
	}
	c.stopped.Store(true)
}

// current percentage.
func current() int {
	p := debug.SetGCPercent(defaultPercent)
	debug.SetGCPercent(p)
	return p
}
