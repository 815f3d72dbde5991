package ike

import (
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Further addresses (RFC 4555 sections 3.4 and 3.6). A gateway tells its own so
// that a device can go to them, of the other family too. What a device tells is
// where it is looked for if it doesn't answer.

// maxAddresses that are told, and that are kept of a peer.
const maxAddresses = 8

// PeerAddresses: the addresses of the peer beside the one in use, as it told
// last; at most 8. If the one in use isn't the peer's any more, an initiator
// moves to another.
type PeerAddresses struct{ Addresses []netip.Addr }

// Announce tells a peer with MOBIKE all addresses of this side, in place of
// Config.Addresses; at most 8 are told. Without MOBIKE it is a no-op.
type Announce struct{ Addresses []netip.Addr }

func (Announce) input()       {}
func (PeerAddresses) output() {}

// ownAddresses beside the one in use.
func (m *Machine) ownAddresses(used netip.Addr) []netip.Addr {
	all := m.cfg.Addresses
	if m.mobility.announced {
		all = m.mobility.own
	}
	var further []netip.Addr
	for _, a := range all {
		if a != used && len(further) < maxAddresses {
			further = append(further, a)
		}
	}
	return further
}

// addressPayloads tell them. none says whether it is told that there are none.
func (m *Machine) addressPayloads(used netip.Addr, none bool) (payloads []ikewire.Payload) {
	for _, a := range m.ownAddresses(used) {
		t := ikewire.NotifyAdditionalIP6Address
		if a.Is4() {
			t = ikewire.NotifyAdditionalIP4Address
		}
		payloads = append(payloads, notify(t, a.AsSlice()))
	}
	if len(payloads) == 0 && none {
		payloads = []ikewire.Payload{notify(ikewire.NotifyNoAdditionalAddresses, nil)}
	}
	return payloads
}

// readAddresses are those that a peer told: each time all of them.
func readAddresses(inner []ikewire.Payload) (addresses []netip.Addr) {
	for _, p := range inner {
		n, ok := p.(*ikewire.Notify)
		if !ok || len(addresses) == maxAddresses {
			continue
		}
		switch {
		case n.NotifyType == ikewire.NotifyAdditionalIP4Address && len(n.Data) == 4:
		case n.NotifyType == ikewire.NotifyAdditionalIP6Address && len(n.Data) == 16:
		default:
			continue
		}
		a, _ := netip.AddrFromSlice(n.Data)
		if a = a.Unmap(); a.IsGlobalUnicast() && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// takeAddresses keeps what the peer told.
func (m *Machine) takeAddresses(inner []ikewire.Payload) {
	addresses := readAddresses(inner)
	if !slices.Equal(addresses, m.mobility.peer) {
		m.mobility.peer = addresses
		m.emit(PeerAddresses{Addresses: addresses})
	}
}

// announceAddresses tells them in a request of their own. It is made when its
// turn comes, because the address in use isn't among them; if the path changes
// while it is open, an UPDATE_SA_ADDRESSES follows that has them again (RFC 4555
// section 3.6).
func (m *Machine) announceAddresses(now time.Time, addresses []netip.Addr) {
	if !m.peer.mobike || m.state != stateEstablished || !m.carries {
		return
	}
	m.mobility.own, m.mobility.announced = slices.Clone(addresses), true
	m.begin(now, func(now time.Time) {
		if m.state != stateEstablished || !m.carries {
			m.finish(now)
			return
		}
		payloads := append(m.addressPayloads(m.path.local.Addr(), true), m.noNATPayload(m.path)...)
		m.sendRequest(now, ikewire.Informational, payloads, func(_ time.Time, _ Message, inner []ikewire.Payload) {
			if n := errorNotify(inner); n != nil {
				m.note(NoteMoveRefused, n.NotifyType.String())
			}
		})
	})
}
