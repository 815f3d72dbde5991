package ike

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"net/netip"

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
