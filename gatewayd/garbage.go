package main

import (
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
 * own. Where nothing happens hardly anything may gather; the runtime gives the
 * rest back to the system by itself, a little at a time, so nothing forces it to
 * (debug.FreeOSMemory would stop everything, to have it back at once in the next
 * storm). Who sets GOGC decides alone.
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
	c.afterCollection()
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
				c.look(false)
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

	mu        sync.Mutex
	percent   int
	allocated uint64 // in all, at since
	since     time.Time
	stopped   bool
}

func newCollector(floor uint64) *collector {
	// A process that begins has much to do.
	return &collector{floor: floor, percent: defaultPercent, since: time.Now()}
}

func (c *collector) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// afterCollection is called by the runtime once a collection, one after the other.
func (c *collector) afterCollection() {
	if !c.look(true) {
		return
	}
	// Nothing refers to it: the next collection finds it.
	marker := new([64]byte)
	runtime.AddCleanup(marker, func(c *collector) { c.afterCollection() }, c)
}

// look sets the percentage by how much was allocated since the last look. Between
// collections it only makes it smaller, and takes only times that say something.
func (c *collector) look(collected bool) (goesOn bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	now, allocated := time.Now(), metricsSum("/gc/heap/allocs:bytes")
	took := now.Sub(c.since)
	if !collected && took < garbageLook/2 {
		return true
	}
	live := metricsSum("/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes")
	p := percentFor(c.floor, live, float64(allocated-c.allocated)/max(took, time.Millisecond).Seconds())
	c.allocated, c.since = allocated, now
	less := float64(p) < float64(c.percent)*(1-step)
	if less || collected && float64(p) > float64(c.percent)*(1+step) {
		c.percent = p
		debug.SetGCPercent(p)
	}
	return true
}

// percentFor what lives, in octets, where rate octets are allocated a second.
func percentFor(floor, live uint64, rate float64) int {
	if live == 0 {
		return maxPercent
	}
	base := float64(live)
	gathers := rate * max(base/markRate/garbageCost, garbageEvery.Seconds())
	least := max(quietFloor, base*quietPercent/100)
	most := max(float64(floor), base*defaultPercent/100)
	return int(min(max(gathers, least), most, base*maxPercent/100) * 100 / base)
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
