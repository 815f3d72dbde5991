package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

/* When garbage is collected
 *
 * By default Go collects when as much garbage has gathered as there is that lives.
 * What a collection costs goes by what lives, so that suits neither end. With few
 * sessions little lives, and each handshake makes some 50 KB of garbage: there
 * would be several collections a second. With a hundred thousand that are parked,
 * half of what is resident would be garbage of handshakes long ago.
 *
 * So how much may gather goes by how quickly it is made: as much as in the time
 * in which one collection takes garbageCost of a processor. There is a floor while
 * there is something to do, which the machine has to spare, and a ceiling, Go's
 * own. Where nothing happens hardly anything may gather, and what a storm left is
 * given back once: the runtime would do that too, but for a tenth more than what was
 * in use at the last collection, and that was in the storm. Who sets GOGC decides
 * alone.
 */
const (
	// garbageFloor is how much may gather while there is something to do, and
	// garbageShare of the machine's memory it may be at most.
	garbageFloor = 64 << 20
	garbageShare = 64
	// quietFloor and quietPercent of what lives may gather in any case.
	quietFloor   = 4 << 20
	quietPercent = 5
	// garbageCost is the share of a processor that collecting is to take, markRate
	// what a processor looks through, in octets a second; garbageEvery for how long
	// garbage gathers at least, for what a collection costs however little lives.
	garbageCost  = 0.01
	markRate     = 1 << 30
	garbageEvery = 2 * time.Second

	defaultPercent = 100 // of what lives, Go's own
	maxPercent     = 1000
	// step is the change of the percentage, as a share, that is worth stopping the
	// world for.
	step = 0.1
	// garbageLook is how often it is seen whether there is less to do than before.
	garbageLook = 15 * time.Second
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
	c := newCollector(floor)
	c.begin()
	c.mark()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(garbageLook)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				if c.look(take(), false) {
					debug.FreeOSMemory()
				}
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
		c.stop()
		debug.SetGCPercent(defaultPercent)
	}
}

// collector sets the percentage: after each collection, and when there is less to
// do.
type collector struct {
	floor uint64

	mu      sync.Mutex
	percent int
	last    reading // of the last look that said something
	quiet   int     // looks on end in which there was nothing to do
	// stormy: there was something to do since memory was given back.
	stormy  bool
	stopped bool
}

// reading of the runtime's figures.
type reading struct {
	at        time.Time
	allocated uint64 // octets in all
	live      uint64 // octets
	forced    uint64 // collections that somebody asked for
}

func take() reading {
	return reading{
		at: time.Now(), allocated: metricsSum("/gc/heap/allocs:bytes"), forced: metricsSum("/gc/cycles/forced:gc-cycles"),
		live: metricsSum("/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes"),
	}
}

func newCollector(floor uint64) *collector {
	return &collector{floor: floor, percent: defaultPercent, stormy: true}
}

// begin: a process that begins has much to do.
func (c *collector) begin() {
	c.mu.Lock()
	c.last = take()
	c.set(percentFor(c.floor, c.last.live, math.Inf(1)))
	c.mu.Unlock()
}

func (c *collector) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// mark has the runtime look after the next collection.
func (c *collector) mark() {
	marker := new([64]byte) // nothing refers to it
	runtime.AddCleanup(marker, func(c *collector) {
		c.look(take(), true)
		c.mu.Lock()
		goesOn := !c.stopped
		c.mu.Unlock()
		if goesOn {
			c.mark()
		}
	}, c)
}

// quietLooks without a collection, one after the other, are the end of a storm.
const quietLooks = 2

// look sets the percentage by how much was allocated since the last look. Between
// collections it only makes it smaller, and takes only times that say something; a
// collection that was forced says nothing of how much gathered. It returns whether
// the memory of a storm is to be given back.
func (c *collector) look(r reading, collected bool) (giveBack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := r.at.Sub(c.last.at)
	if c.stopped || collected && r.forced != c.last.forced || !collected && took < garbageLook/2 {
		c.last.forced = r.forced
		return false
	}
	rate := float64(r.allocated-c.last.allocated) / max(took, time.Millisecond).Seconds()
	c.last = r
	p := percentFor(c.floor, r.live, rate)
	less := float64(p) < float64(c.percent)*(1-step)
	if less || collected && float64(p) > float64(c.percent)*(1+step) {
		c.set(p)
	}
	switch gathers, least := gathering(r.live, rate); {
	case gathers > least:
		c.stormy, c.quiet = true, 0
	case !collected:
		c.quiet++
	}
	if giveBack = c.stormy && c.quiet >= quietLooks; giveBack {
		c.stormy = false
	}
	return giveBack
}

func (c *collector) set(percent int) {
	c.percent = percent
	debug.SetGCPercent(percent)
}

// percentFor what lives, in octets, where rate octets are allocated a second.
func percentFor(floor, live uint64, rate float64) int {
	if live == 0 {
		return maxPercent
	}
	base := float64(live)
	gathers, least := gathering(live, rate)
	most := max(float64(floor), base*defaultPercent/100)
	return int(min(max(gathers, least), most, base*maxPercent/100) * 100 / base)
}

// gathering is how much may gather for what collecting costs, and the least that
// may in any case.
func gathering(live uint64, rate float64) (gathers, least float64) {
	base := float64(live)
	return rate * max(base/markRate/garbageCost, garbageEvery.Seconds()), max(quietFloor, base*quietPercent/100)
}

// metricsSum of the runtime.
func metricsSum(names ...string) (sum uint64) {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
