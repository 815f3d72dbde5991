package ike

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// natHash is the content of NAT_DETECTION_*_IP (RFC 7296 section 2.23):
// SHA-1 of both SPIs, address and port in network order.
func natHash(spiI, spiR uint64, a netip.AddrPort) []byte {
	b := make([]byte, 0, 16+16+2)
	b = binary.BigEndian.AppendUint64(b, spiI)
	b = binary.BigEndian.AppendUint64(b, spiR)
	b = append(b, a.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	h := sha1.Sum(b)
	return h[:]
}

// natPayloads are ours. Where the data plane has no raw ESP, the source hash
// is false, which makes the peer believe in a NAT in front of us and
// encapsulate; a false destination hash would make it send keepalives.
func (m *Machine) natPayloads(spiR uint64, p path) []ikewire.Payload {
	source := natHash(m.spiI, spiR, p.local)
	if m.cfg.ForceUDP {
		source[0] ^= 0xff
	}
	return []ikewire.Payload{
		notify(ikewire.NotifyNATDetectionSourceIP, source),
		notify(ikewire.NotifyNATDetectionDestinationIP, natHash(m.spiI, spiR, p.remote)),
	}
}

// natDetect compares the peer's hashes with what we see. supported is false
// when it sent none.
func natDetect(payloads []ikewire.Payload, spiI, spiR uint64, p path) (supported, between bool) {
	source, destination := false, false
	for _, pl := range payloads {
		n, ok := pl.(*ikewire.Notify)
		if !ok {
			continue
		}
		if n.NotifyType == ikewire.NotifyNATDetectionSourceIP {
			// Several when the sender doesn't know its own address.
			supported = true
			source = source || bytes.Equal(n.Data, natHash(spiI, spiR, p.remote))
		}
		if n.NotifyType == ikewire.NotifyNATDetectionDestinationIP {
			destination = bytes.Equal(n.Data, natHash(spiI, spiR, p.local))
		}
	}
	return supported, supported && (!source || !destination)
}

// noNAT compares the addresses that the peer sent with those that we see (RFC
// 4555 section 4.2.6): source, destination, source port, destination port.
func noNAT(data []byte, seen path) bool {
	return bytes.Equal(data, tuple(seen.remote, seen.local))
}

func tuple(source, destination netip.AddrPort) []byte {
	b := append(source.Addr().AsSlice(), destination.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}

// natForbidden: the peer wants no NAT on the way, and there is one (RFC 4555
// section 3.9). Then nothing that the request says of addresses counts.
func (m *Machine) natForbidden(inner []ikewire.Payload) bool {
	n := ikewire.FindNotify(inner, ikewire.NotifyNoNATsAllowed)
	return n != nil && m.peer.mobike && !noNAT(n.Data, m.in.from)
}

// noNATPayload forbids NATs on the way that a request of ours takes.
func (m *Machine) noNATPayload(p path) []ikewire.Payload {
	if m.ini == nil || !m.ini.NoNATs {
		return nil
	}
	return []ikewire.Payload{notify(ikewire.NotifyNoNATsAllowed, tuple(p.local, p.remote))}
}

// probePayloads of an initiator's liveness check find out whether a NAT has
// forgotten it (RFC 4555 section 3.8).
func (m *Machine) probePayloads() []ikewire.Payload {
	if m.ini == nil || !m.peer.mobike {
		return nil
	}
	return m.natPayloads(m.spiR, m.path)
}

// mappingSeen compares where the peer sees us now with where it did before. The
// hash has the SPIs in it, so that the first one after a rekeying differs, too;
// the update that comes of it is harmless.
func (m *Machine) mappingSeen(now time.Time, inner []ikewire.Payload) {
	mapped := mappedOf(inner)
	if m.ini == nil || mapped == nil || bytes.Equal(mapped, m.mobility.mapped) {
		return
	}
	m.mobility.mapped, m.mobility.updateDue = mapped, true
	m.settle(now)
}
