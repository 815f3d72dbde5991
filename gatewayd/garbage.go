package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

/* When garbage is collected
 *
 * By default Go collects when as much garbage has gathered as there is that lives.
 * A gateway with few sessions has little that lives, and each handshake makes some
 * 50 KB of garbage: it would collect several times a second. So garbage may
 * gather up to a fixed amount at least, which the machine has to spare; where more
 * lives than that, all is as by default, and the memory of many sessions isn't
 * multiplied. Who sets GOGC decides alone.
 */
const (
	// garbageFloor is how much may gather, and garbageShare of the machine's memory
	// it may be at most.
	garbageFloor = 64 << 20
	garbageShare = 64

	defaultPercent = 100 // of what lives, Go's own
	maxPercent     = 1000
	// step is the change of the percentage, as a share, that is worth stopping the
	// world for.
	step = 0.1
)

// letGarbageGather until stop is called.
func letGarbageGather() (stop func()) {
	if _, ok := os.LookupEnv("GOGC"); ok {
		return func() {}
	}
	floor := uint64(garbageFloor)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		floor = min(floor, uint64(info.Totalram)*uint64(info.Unit)/garbageShare)
	}
	c := &collector{floor: floor, percent: defaultPercent}
	c.afterCollection()
	return func() {
		c.stopped.Store(true)
		debug.SetGCPercent(defaultPercent)
	}
}

// collector sets the percentage after each collection.
type collector struct {
	floor   uint64
	percent int
	stopped atomic.Bool
}

// afterCollection is called by the runtime once a collection, one after the other.
func (c *collector) afterCollection() {
	if c.stopped.Load() {
		return
	}
	if p := percentFor(c.floor, liveMemory()); float64(p) > float64(c.percent)*(1+step) || float64(p) < float64(c.percent)*(1-step) {
		c.percent = p
		debug.SetGCPercent(p)
	}
	// Nothing refers to it: the next collection finds it.
	marker := new([64]byte)
	runtime.AddCleanup(marker, func(c *collector) { c.afterCollection() }, c)
}

// percentFor what lives has floor octets of garbage gather at least.
func percentFor(floor, live uint64) int {
	if live == 0 {
		return maxPercent
	}
	return int(min(max(100*floor/live, defaultPercent), maxPercent))
}

// liveMemory is what the last collection found and what it looks through beside:
// the base of the percentage.
func liveMemory() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
