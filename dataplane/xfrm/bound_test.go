package xfrm

import (
	"log/slog"
	"net"
	"testing"

	"github.com/roamgate/roamgate/bpf/access"
	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/layered"
	"github.com/roamgate/roamgate/integration/netns"
)

// boundBackend counts what the layer drops under the names of the backend.
type boundBackend struct {
	*layered.Backend
	access *access.Access
}

func (b *boundBackend) Drops() dataplane.Drops {
	drops := b.Backend.Drops()
	counters, err := b.access.Counters()
	if err != nil {
		return drops
	}
	in, out := counters[acl.In], counters[acl.Out]
	drops[countedAs[dataplane.ReasonInnerSource]] += in[acl.VerdictWrongSA].Packets + in[acl.VerdictUnknown].Packets
	drops[dataplane.ReasonNoChild] += out[acl.VerdictUnknown].Packets
	return drops
}

// startBound builds a backend that leaves it to BPF on its interface which
// device may use which address.
func (g *ground) startBound(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
	t.Helper()
	g.config.SourceBinding = true
	var a *access.Access
	check(t, g.Do(func() error {
		i, err := net.InterfaceByName(g.config.Inside)
		if err != nil {
			return err
		}
		if a, err = access.Open(access.Config{Interface: i.Index, MaxDevices: g.config.MaxChildren, BindSA: true}); err != nil {
			return err
		}
		t.Cleanup(func() { check(t, a.Close()) })
		if err := a.SetGroups([]acl.Group{{Name: ""}, {Name: "staff"}}); err != nil {
			return err
		}
		return a.Attach()
	}))
	h := g.start(t, events)
	crash := g.backend
	h.Backend = &boundBackend{layered.New(g.backend, layered.Access(a, slog.New(slog.DiscardHandler))), a}
	h.Crash = func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		t.Helper()
		crash.crash(t)
		check(t, a.Close())
		return g.startBound(t, events)
	}
	return h
}

// With BPF behind it, which sees the inbound SPI of each packet, the backend is
// what it is without: for both families, and with N + 2 policies for each.
func TestXFRMConformanceBoundByBPF(t *testing.T) {
	netns.NeedKernelIPsec(t)
	f := newField(t)
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		g := newGround(t, f)
		g.config.Locals = []Local{g.local(g.here4), g.local(g.here6)}
		return g.startBound(t, events)
	})
}
