package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/flow"
)

const (
	// gsoMost packets the kernel cuts out of one message (UDP_MAX_SEGMENTS), and
	// gsoLen octets a datagram has at most.
	gsoMost = 64
	gsoLen  = 65507
)

func (s *Swarm) prepareGSO(p Plan) error {
	sealed := s.members[0].seal.SealedLen(p.Mix[0])
	for _, size := range p.Mix {
		if size != p.Mix[0] {
			return errors.New("GSO needs packets of one size")
		}
	}
	if p.Burst > gsoMost || p.Burst*sealed > gsoLen {
		return fmt.Errorf("a burst of %d packets of %d octets is more than one message holds", p.Burst, sealed)
	}
	for i, m := range s.members {
		if m.conn == nil {
			return fmt.Errorf("device %d: no socket to send by", i)
		}
	}
	// The last packet needs room to be sealed in.
	s.bundle = make([]byte, gsoLen+room)
	return nil
}

// gso seals a burst of one tunnel, one packet behind the other, and sends it as
// one message.
func (s *Swarm) gso(p Plan) (done, refused int, err error) {
	at := flow.Now()
	m := s.members[s.at]
	s.at = (s.at + 1) % len(s.members)
	length, each := 0, 0
	for range p.Burst {
		packet := m.put(s.bundle[length:], p.Mix[0], p.To, func(payload []byte) { flow.Put(payload, s.numbers, at) })
		s.numbers++
		p.note(packet, m)
		each = len(packet)
		length += each
	}
	_, _, err = m.conn.WriteMsgUDPAddrPort(s.bundle[:length], segments(each), m.path.Remote)
	switch {
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ECONNREFUSED):
		return 0, p.Burst, nil
	case err != nil:
		return 0, 0, err
	}
	return p.Burst, 0, nil
}

// segments is the control message UDP_SEGMENT.
func segments(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}
