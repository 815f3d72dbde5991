package xfrm

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/integration/netns"
)

// An interface that has no crypto offload is found out at the start, told once,
// and every SA is made for the processor.
func TestXFRMNoOffload(t *testing.T) {
	netns.NeedKernelIPsec(t)
	g := newGround(t, newField(t))
	var log bytes.Buffer
	g.config.Offload, g.config.Logger = g.config.Outside, slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil))
	g.start(t, make(chan dataplane.Event, 16))
	if g.backend.Abilities().Offload || strings.Count(log.String(), "the interface has no crypto offload") != 2 {
		t.Errorf("abilities %+v, want no offload, and a line for each encapsulation:\n%s", g.backend.Abilities(), &log)
	}
	install(t, g.backend, childOf(t, g, netip.MustParseAddr("10.9.0.10"), netip.MustParseAddrPort("192.0.2.9:4500")))
	if got, want := g.backend.Offloads(), (Offloads{Others: 2}); got != want {
		t.Errorf("offloads %+v, want %+v", got, want)
	}
}

// An SA that the hardware refuses is made for the processor, the rest of its Child
// SA as usual, and the log tells of the first one.
func TestXFRMOffloadRefused(t *testing.T) {
	netns.NeedKernelIPsec(t)
	g := newGround(t, newField(t))
	var log bytes.Buffer
	g.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	g.start(t, make(chan dataplane.Event, 16))
	b := g.backend
	check(t, g.Do(func() error {
		i, err := net.InterfaceByName(g.config.Outside)
		if err == nil {
			b.offload, b.offloads[dataplane.EncapsulationUDP] = i.Index, true
		}
		return err
	}))
	for n := range 2 {
		c := childOf(t, g, netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + n)}), netip.MustParseAddrPort("192.0.2.9:4500"))
		b.mu.Lock()
		r := b.newRun(2)
		check(t, r.install(0, &c), r.useOutbound(1, c.Inbound.SPI))
		// The kernel has no hardware to refuse anything; it refuses flags that it
		// doesn't know in the same way.
		for data := r.q.buf[r.q.starts[0]:]; ; {
			m, rest, ok := nextMessage(data)
			if !ok {
				break
			}
			if m.kind == msgNewSA {
				for kind, value := range attributes(m.body[lenSAInfo:]) {
					if kind == attrOffload {
						value[4] |= 0x80
					}
				}
			}
			data = rest
		}
		r.flush()
		b.mu.Unlock()
		check(t, r.errs...)
	}
	if policies, states := census(t, b, testIfID); states != 4 || policies[dirOut] != 2 {
		t.Errorf("%d SAs and policies %v, want all", states, policies)
	}
	if got, want := b.Offloads(), (Offloads{Refused: 4}); got != want {
		t.Errorf("offloads %+v, want %+v", got, want)
	}
	if strings.Count(log.String(), "refused an SA") != 1 {
		t.Errorf("the log tells not once:\n%s", &log)
	}
}
