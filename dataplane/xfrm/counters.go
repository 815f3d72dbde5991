package xfrm

import (
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Counters asks the kernel for all SAs at once. A child whose SAs it has no more,
// and of which no event told, is told of now.
func (b *Backend) Counters(yield func(dataplane.ChildCounters) bool) {
	for _, c := range b.allCounters() {
		if !yield(c) {
			return
		}
	}
}

func (b *Backend) allCounters() []dataplane.ChildCounters {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() {
		return nil
	}
	words, err := b.look()
	if err != nil {
		b.config.Logger.Warn("XFRM: counters", slog.Any("error", err))
		return nil
	}
	all := make([]dataplane.ChildCounters, 0, len(b.children))
	for _, c := range b.children {
		w, ok := words[c]
		if !c.dead && (!ok || w.in.id.spi == 0 || w.out.id.spi == 0) {
			b.bury(c, nil)
		}
		all = append(all, c.counters(&w.in, &w.out))
	}
	return all
}

// look asks for the present states of all children's SAs, and counts what they
// dropped.
func (b *Backend) look() (map[*child]lastWords, error) {
	words := make(map[*child]lastWords, len(b.children))
	err := b.conn.dump(msgGetSA, func(m message) {
		r, ok := parseSA(m.body)
		if !ok || m.kind != msgNewSA || r.ifID != b.config.IfID {
			return
		}
		if c := b.children[r.id.spi]; c != nil && c.inboundID() == r.id {
			w := words[c]
			w.in = r
			words[c] = w
			b.countDrops(c, &r)
		} else if c := b.outbounds[r.id]; c != nil {
			w := words[c]
			w.out = r
			words[c] = w
		}
	})
	return words, err
}

// counters of a child, from what is known without its SAs and from them.
func (c *child) counters(in, out *report) dataplane.ChildCounters {
	sum := c.counted
	sum.Inbound = c.Inbound.SPI
	if c.dead {
		return sum
	}
	addReport(&sum, true, in)
	addReport(&sum, false, out)
	return sum
}

// addReport adds what one SA carried.
func addReport(to *dataplane.ChildCounters, inbound bool, r *report) {
	last := time.Time{}
	if r.lastUsed != 0 && r.lifetime.packets != 0 {
		last = time.Unix(int64(r.lastUsed), 0)
	}
	if inbound {
		to.BytesIn += r.lifetime.bytes
		to.PacketsIn += r.lifetime.packets
		to.LastIn = later(to.LastIn, last)
		return
	}
	to.BytesOut += r.lifetime.bytes
	to.PacketsOut += r.lifetime.packets
	to.LastOut = later(to.LastOut, last)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
