package xfrm

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// Offloads counts the SAs that were made where the hardware does crypto.
type Offloads struct {
	// Taken by the hardware; Refused by it, so that the processor does the work:
	// its table is full, or it can't do what the SA asks for. Others are of an
	// encapsulation that it can't do at all.
	Taken, Refused, Others uint64
}

// openOffload finds out what the hardware takes: raw ESP, ESP in UDP (Linux
// 6.12), both or nothing. For the rest the processor does the work.
func (b *Backend) openOffload() error {
	if b.config.Offload == "" {
		return nil
	}
	i, err := net.InterfaceByName(b.config.Offload)
	if err != nil {
		return fmt.Errorf("%w: offload: %w", ErrConfig, err)
	}
	b.offload = i.Index
	for name, e := range map[string]dataplane.Encapsulation{"none": dataplane.EncapsulationNone, "udp": dataplane.EncapsulationUDP} {
		s := trial(documentation4, b.features.Algorithms[0])
		s.ifID, s.offload = b.config.IfID, i.Index
		if e == dataplane.EncapsulationUDP {
			s.sport, s.dport = 4500, 4500
		}
		if err := tryOffload(b.conn, s); err != nil {
			b.config.Logger.Warn("no crypto offload: the hardware, its driver or the kernel refuses",
				slog.String("interface", i.Name), slog.String("encapsulation", name), slog.Any("error", err))
			continue
		}
		b.offloads[e], b.abilities.Offload = true, true
	}
	return nil
}

// errSoftware: the kernel took an SA and does the work itself.
var errSoftware = errors.New("the interface has no crypto offload")

// tryOffload makes an SA, asks whether the hardware has it, and removes it.
func tryOffload(c *conn, s *state) error {
	var q batch
	q.newSA(msgNewSA, s)
	q.byID(msgGetSA, s.id)
	q.byID(msgDelSA, s.id)
	offloaded := false
	err := c.do(&q, func(_ int, m message) {
		if r, ok := parseSA(m.body); ok {
			offloaded = r.offloaded
		}
	})[0]
	if err == nil && !offloaded {
		return errSoftware
	}
	return err
}

// offloadOf is the interface whose hardware is to have an SA, 0 for none.
func (b *Backend) offloadOf(e dataplane.Encapsulation) int {
	if b.offloads[e] {
		return b.offload
	}
	return 0
}

// makeSA appends a new SA of a child, and notes what it was if it is to be made
// without the hardware.
func (r *run) makeSA(i int, c *child, what string, s state) {
	r.q.newSA(msgNewSA, &s)
	p := part{change: i, child: c, what: what, makes: s.id}
	switch {
	case s.offload != 0:
		again := s
		p.offloaded = &again
	case r.b.offload != 0:
		r.b.counts.Others++
	}
	r.note(p)
}

// send sends what was collected. SAs that the hardware refuses are made again,
// for the processor.
func (r *run) send() (of []part, errs []error) {
	of, r.of = r.of, nil
	errs = r.b.conn.do(&r.q, func(i int, m message) {
		if of[i].answer != nil {
			of[i].answer(m)
		}
	})
	var again []int
	for i, p := range of {
		switch {
		case p.offloaded == nil:
		case errs[i] == nil:
			r.b.counts.Taken++
		case !errors.Is(errs[i], unix.EEXIST):
			again = append(again, i)
			p.offloaded.offload = 0
			r.q.newSA(msgNewSA, p.offloaded)
		}
	}
	if len(again) == 0 {
		return of, errs
	}
	r.b.counts.Refused += uint64(len(again))
	first := errs[again[0]]
	for k, err := range r.b.conn.do(&r.q, nil) {
		errs[again[k]] = err
	}
	if !r.b.refusedBefore {
		r.b.refusedBefore = true
		r.b.config.Logger.Warn("the hardware refused an SA, for which the processor does the work; others like it are counted",
			slog.String("interface", r.b.config.Offload), slog.Any("error", first))
	}
	return of, errs
}

// Offloads so far.
func (b *Backend) Offloads() Offloads {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}
