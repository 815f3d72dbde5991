package traffic

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// ErrReused says that a sequence number was sent twice under one key.
var ErrReused = errors.New("sequence number sent twice under one key")

// ErrSegmented says that a capture holds a frame that the kernel cuts into
// several datagrams later (UDP_SEGMENT). Only the first of them would be seen,
// so nothing can be said about such a capture.
var ErrSegmented = errors.New("datagrams in one frame")

// largestFrame on Ethernet with an MTU of 1500.
const largestFrame = 14 + 1500

// Datagram is a UDP datagram of the outside, or ESP directly over IP, with ports
// of 0; cut where the capture cut it. Data is overwritten by the next one of a
// capture.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
}

// raw: ESP directly over IP (RFC 4303).
func (d Datagram) raw() bool { return d.From.Port() == 0 && d.To.Port() == 0 }

// ESP tells ESP, in UDP (RFC 3948) or not, from IKE and keepalives; its SPI and
// sequence number are the low 32 bits as sent.
func (d Datagram) ESP() (spi, sequence uint32, ok bool) {
	if !d.raw() && d.From.Port() != 4500 && d.To.Port() != 4500 || len(d.Data) < 8 {
		return 0, 0, false
	}
	spi = binary.BigEndian.Uint32(d.Data)
	return spi, binary.BigEndian.Uint32(d.Data[4:]), spi != 0
}

// IKE returns the IKE message inside, without the non-ESP marker.
func (d Datagram) IKE() ([]byte, bool) {
	switch {
	case d.From.Port() == 500 || d.To.Port() == 500:
		return d.Data, len(d.Data) >= 28
	case d.From.Port() == 4500 || d.To.Port() == 4500:
		return d.Data[min(4, len(d.Data)):], len(d.Data) >= 32 && binary.BigEndian.Uint32(d.Data) == 0
	}
	return nil, false
}

// ReadDatagrams calls yield for each datagram of a capture, in order.
func ReadDatagrams(path string, yield func(Datagram) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r, err := pcapgo.NewReader(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var h headers
	for {
		frame, info, err := r.ZeroCopyReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		}
		d, ok := h.datagram(frame)
		if !ok {
			continue
		}
		if info.Length > largestFrame {
			return fmt.Errorf("%w: %s to %s, %d octets", ErrSegmented, d.From, d.To, info.Length)
		}
		if err := yield(d); err != nil {
			return err
		}
	}
}

// headers of a frame, kept to be decoded into.
type headers struct {
	ethernet layers.Ethernet
	ip4      layers.IPv4
	ip6      layers.IPv6
	udp      layers.UDP
}

// cut: what was cut is left out without a word.
var cut = gopacket.NilDecodeFeedback

// datagram is what a frame holds of a datagram. Of one that IP fragmented
// it is the first fragment, where the sequence number of ESP is.
func (h *headers) datagram(frame []byte) (Datagram, bool) {
	if h.ethernet.DecodeFromBytes(frame, cut) != nil {
		return Datagram{}, false
	}
	var from, to []byte
	var payload []byte
	var next layers.IPProtocol
	switch h.ethernet.EthernetType {
	case layers.EthernetTypeIPv4:
		if h.ip4.DecodeFromBytes(h.ethernet.Payload, cut) != nil || h.ip4.FragOffset != 0 {
			return Datagram{}, false
		}
		from, to, payload, next = h.ip4.SrcIP, h.ip4.DstIP, h.ip4.Payload, h.ip4.Protocol
	case layers.EthernetTypeIPv6:
		if h.ip6.DecodeFromBytes(h.ethernet.Payload, cut) != nil {
			return Datagram{}, false
		}
		from, to, payload, next = h.ip6.SrcIP, h.ip6.DstIP, h.ip6.Payload, h.ip6.NextHeader
		if next == layers.IPProtocolIPv6Fragment {
			if len(payload) < 8 || binary.BigEndian.Uint16(payload[2:])>>3 != 0 {
				return Datagram{}, false
			}
			next, payload = layers.IPProtocol(payload[0]), payload[8:]
		}
	default:
		return Datagram{}, false
	}
	source, _ := netip.AddrFromSlice(from)
	target, _ := netip.AddrFromSlice(to)
	if next == layers.IPProtocolESP {
		return Datagram{From: netip.AddrPortFrom(source, 0), To: netip.AddrPortFrom(target, 0), Data: payload}, true
	}
	if next != layers.IPProtocolUDP || h.udp.DecodeFromBytes(payload, cut) != nil {
		return Datagram{}, false
	}
	return Datagram{
		From: netip.AddrPortFrom(source, uint16(h.udp.SrcPort)),
		To:   netip.AddrPortFrom(target, uint16(h.udp.DstPort)),
		Data: h.udp.Payload,
	}, true
}

// Recording is what the wire recorder counted.
type Recording struct {
	// Packets of ESP by the address that sent them.
	Packets map[netip.Addr]int
	// SAs seen: one direction of a Child SA each, and once more after each move.
	SAs int
	// Overtaken are the packets that came after one with a higher number.
	Overtaken int
}

// CheckSequences is the wire recorder: it reads a capture of the outside and
// returns ErrReused where a sequence number was used twice with one SPI, and so
// with one key, by one sender, or towards one receiver: either may move. An SPI
// that is drawn again for another key within one capture would count as such
// too; freed SPIs rest.
func CheckSequences(path string) (Recording, error) {
	type end struct {
		sends bool
		at    netip.Addr
		spi   uint32
	}
	seen := map[end]*bitmap{}
	type sa struct {
		from, to netip.Addr
		spi      uint32
	}
	sas := map[sa]bool{}
	rec := Recording{Packets: map[netip.Addr]int{}}
	err := ReadDatagrams(path, func(d Datagram) error {
		spi, sequence, ok := d.ESP()
		if !ok {
			return nil
		}
		from, to := d.From.Addr(), d.To.Addr()
		sas[sa{from, to, spi}] = true
		rec.Packets[from]++
		for i, key := range []end{{true, from, spi}, {false, to, spi}} {
			if seen[key] == nil {
				seen[key] = &bitmap{}
			}
			if i == 0 && sequence < seen[key].highest {
				rec.Overtaken++
			}
			if !seen[key].add(sequence) {
				return fmt.Errorf("%w: %s to %s SPI %08x sequence number %d", ErrReused, from, to, spi, sequence)
			}
		}
		return nil
	})
	rec.SAs = len(sas)
	return rec, err
}

// bitmap of sequence numbers in pages, since they are mostly dense.
type bitmap struct {
	pages   map[uint32]*[1024]uint64
	highest uint32
}

// add reports whether n is new.
func (b *bitmap) add(n uint32) bool {
	b.highest = max(b.highest, n)
	if b.pages == nil {
		b.pages = map[uint32]*[1024]uint64{}
	}
	page := b.pages[n>>16]
	if page == nil {
		page = new([1024]uint64)
		b.pages[n>>16] = page
	}
	word, bit := &page[n>>6&1023], uint64(1)<<(n&63)
	isNew := *word&bit == 0
	*word |= bit
	return isNew
}
