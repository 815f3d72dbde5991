package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// hex64 is an SPI of an IKE SA as dissectors show it.
func hex64(v uint64) string { return fmt.Sprintf("%016x", v) }

func (g *gateway) Sessions() []local.Session {
	list := []local.Session{}
	for _, i := range g.sessions.Sessions() {
		list = append(list, local.Session{
			ID: hex64(uint64(i.ID)), Device: i.Device, Group: i.Group,
			InitiatorSPI: hex64(i.InitiatorSPI), ResponderSPI: hex64(i.ResponderSPI),
			Local: i.Local, Remote: i.Remote, VirtualIPs: i.VirtualIPs, Children: children(i.Children),
			IKE: i.IKE, Auth: i.Auth, Resumed: i.Resumed, Client: i.Client, Legacy: i.Legacy,
			Established: i.Established, Until: i.Until, LastIn: i.LastIn, LastOut: i.LastOut,
			Traffic: local.Traffic(i.Traffic),
		})
	}
	return list
}

func children(list []session.Child) []local.Child {
	out := []local.Child{}
	for _, c := range list {
		out = append(out, local.Child{
			InboundSPI: fmt.Sprintf("%08x", uint32(c.Inbound)), OutboundSPI: fmt.Sprintf("%08x", uint32(c.Outbound)),
			ESP: c.ESP, LocalTS: selectors(c.LocalTS), RemoteTS: selectors(c.RemoteTS),
		})
	}
	return out
}

// selectors for people.
func selectors(list []dataplane.Selector) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.First.String()
		if s.First != s.Last {
			out[i] += "-" + s.Last.String()
		}
		if p, ok := prefixOf(s.First, s.Last); ok {
			out[i] = p.String()
		}
		if s.Protocol != 0 {
			out[i] += fmt.Sprintf(" protocol %d", s.Protocol)
		}
		if s.FirstPort != 0 || s.LastPort != 65535 {
			out[i] += fmt.Sprintf(" ports %d-%d", s.FirstPort, s.LastPort)
		}
	}
	return out
}

// prefixOf a range, if it is one.
func prefixOf(first, last netip.Addr) (netip.Prefix, bool) {
	for bits := range first.BitLen() + 1 {
		p, err := first.Prefix(bits)
		if err == nil && p.Addr() == first && lastOf(p) == last {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (g *gateway) Kill(k local.Kill) (local.Killed, error) {
	n := g.sessions.Kill(matching(k.ID, k.Device, k.All))
	if n == 0 && !k.All {
		return local.Killed{}, fmt.Errorf("session: %w", local.ErrNotFound)
	}
	return local.Killed{Sessions: n}, nil
}

func (g *gateway) Redirect(r local.Redirect) (local.Redirected, error) {
	if !config.IsGateway(r.To) {
		return local.Redirected{}, fmt.Errorf("got %q, expected a domain name or an IP address of another gateway", r.To)
	}
	n := g.sessions.Redirect(matching(r.ID, r.Device, r.All), r.To)
	if n == 0 && !r.All {
		return local.Redirected{}, fmt.Errorf("session: %w", local.ErrNotFound)
	}
	return local.Redirected{Sessions: n}, nil
}

// matching by one of the three.
func matching(id, device string, all bool) func(session.Info) bool {
	return func(i session.Info) bool {
		return all || id != "" && hex64(uint64(i.ID)) == id || device != "" && i.Device == device
	}
}

func (g *gateway) Leases() []local.Lease {
	list := []local.Lease{}
	for _, l := range g.leases.List() {
		entry := local.Lease{Device: l.Device, Address: l.Address, State: "idle", Since: l.Since, LastUsed: l.LastUsed}
		if l.Live {
			entry.State, entry.Session = "live", hex64(uint64(l.Session))
		}
		list = append(list, entry)
	}
	return list
}

func (g *gateway) Release(device string) error {
	err := g.leases.Release(device)
	switch {
	case errors.Is(err, lease.ErrUnknownDevice):
		return fmt.Errorf("%w: %w", local.ErrNotFound, err)
	case errors.Is(err, lease.ErrInUse):
		return fmt.Errorf("%w: %w", local.ErrConflict, err)
	}
	return err
}
