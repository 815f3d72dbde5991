package main

import (
	"sync"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// trafficInterval between readings. What a Child SA moves between the last
// reading and its end is missing from the totals.
const trafficInterval = 2 * time.Second

// traffic sums the counters of Child SAs, which go with them, to totals that
// only grow.
type traffic struct {
	counters func(yield func(dataplane.ChildCounters) bool)

	mu    sync.Mutex
	total local.Traffic
	last  map[dataplane.SPI]local.Traffic
}

func newTraffic(counters func(yield func(dataplane.ChildCounters) bool)) *traffic {
	return &traffic{counters: counters, last: make(map[dataplane.SPI]local.Traffic)}
}

// read takes a reading and returns the totals.
func (t *traffic) read() local.Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make(map[dataplane.SPI]local.Traffic, len(t.last))
	t.counters(func(c dataplane.ChildCounters) bool {
		v := local.Traffic{BytesIn: c.BytesIn, PacketsIn: c.PacketsIn, BytesOut: c.BytesOut, PacketsOut: c.PacketsOut}
		was := t.last[c.Inbound]
		if v.PacketsIn < was.PacketsIn || v.PacketsOut < was.PacketsOut {
			was = local.Traffic{} // the SPI is another Child SA's by now
		}
		t.total.BytesIn += v.BytesIn - was.BytesIn
		t.total.PacketsIn += v.PacketsIn - was.PacketsIn
		t.total.BytesOut += v.BytesOut - was.BytesOut
		t.total.PacketsOut += v.PacketsOut - was.PacketsOut
		now[c.Inbound] = v
		return true
	})
	t.last = now
	return t.total
}

// run takes readings until done is closed.
func (t *traffic) run(done <-chan struct{}) {
	tick := time.NewTicker(trafficInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			t.read()
		}
	}
}
