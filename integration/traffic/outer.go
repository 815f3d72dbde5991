package traffic

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
)

// ErrReused says that a sequence number was sent twice under one key.
var ErrReused = errors.New("sequence number sent twice under one key")

// ErrSegmented says that a capture holds a frame that the kernel cuts into
// several datagrams later (UDP_SEGMENT). Only the first of them would be seen,
// so nothing can be said about such a capture.
var ErrSegmented = errors.New("datagrams in one frame")

// largestFrame on Ethernet with an MTU of 1500.
const largestFrame = 14 + 1500

// Datagram is a UDP datagram of the outside, cut where the capture cut it.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
}

// ESP tells ESP in UDP (RFC 3948) from IKE and keepalives; its SPI and
// sequence number are the low 32 bits as sent.
func (d Datagram) ESP() (spi, sequence uint32, ok bool) {
	if d.From.Port() != 4500 && d.To.Port() != 4500 || len(d.Data) < 8 {
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

// ReadDatagrams calls yield for each UDP datagram over IPv4 of a capture made
// by this package, in order.
func ReadDatagrams(path string, yield func(Datagram) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if binary.LittleEndian.Uint32(head[:]) != pcapMagic {
		return fmt.Errorf("%s is not a capture of this package", path)
	}
	frame := make([]byte, 1<<17)
	for {
		switch _, err := io.ReadFull(r, head[:16]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		}
		size, sent := int(binary.LittleEndian.Uint32(head[8:])), binary.LittleEndian.Uint32(head[12:])
		if size > len(frame) {
			return fmt.Errorf("%s: frame of %d octets", path, size)
		}
		if _, err := io.ReadFull(r, frame[:size]); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		d, ok := parseUDP(frame[:size])
		if !ok {
			continue
		}
		if sent > largestFrame {
			return fmt.Errorf("%w: %s to %s, %d octets", ErrSegmented, d.From, d.To, sent)
		}
		if err := yield(d); err != nil {
			return err
		}
	}
}

// parseUDP reads Ethernet, IPv4 and UDP headers of a frame.
func parseUDP(f []byte) (Datagram, bool) {
	if len(f) < 14+20 || binary.BigEndian.Uint16(f[12:]) != 0x0800 {
		return Datagram{}, false
	}
	ip := f[14:]
	header := int(ip[0]&0xf) * 4
	fragmentOffset := binary.BigEndian.Uint16(ip[6:]) & 0x1fff
	if header < 20 || len(ip) < header+8 || ip[9] != 17 || fragmentOffset != 0 {
		return Datagram{}, false
	}
	udp := ip[header:]
	end := min(int(binary.BigEndian.Uint16(udp[4:])), len(udp))
	if end < 8 {
		return Datagram{}, false
	}
	source, _ := netip.AddrFromSlice(ip[12:16])
	target, _ := netip.AddrFromSlice(ip[16:20])
	return Datagram{
		From: netip.AddrPortFrom(source, binary.BigEndian.Uint16(udp)),
		To:   netip.AddrPortFrom(target, binary.BigEndian.Uint16(udp[2:])),
		Data: udp[8:end],
	}, true
}

// Recording is what the wire recorder counted.
type Recording struct {
	// Packets of ESP by the address that sent them.
	Packets map[netip.Addr]int
	// SAs seen: one direction of a Child SA each.
	SAs int
}

// CheckSequences is the wire recorder: it reads a capture of the outside and
// returns ErrReused where one sender used a sequence number twice with one
// SPI, and so with one key. An SPI that is drawn again for another key within
// one capture would count as such too; freed SPIs rest.
func CheckSequences(path string) (Recording, error) {
	type sa struct {
		from, to netip.Addr
		spi      uint32
	}
	seen := map[sa]*bitmap{}
	rec := Recording{Packets: map[netip.Addr]int{}}
	err := ReadDatagrams(path, func(d Datagram) error {
		spi, sequence, ok := d.ESP()
		if !ok {
			return nil
		}
		key := sa{d.From.Addr(), d.To.Addr(), spi}
		if seen[key] == nil {
			seen[key] = &bitmap{}
		}
		rec.Packets[key.from]++
		if !seen[key].add(sequence) {
			return fmt.Errorf("%w: %s to %s SPI %08x sequence number %d", ErrReused, key.from, key.to, spi, sequence)
		}
		return nil
	})
	rec.SAs = len(seen)
	return rec, err
}

// bitmap of sequence numbers in pages, since they are mostly dense.
type bitmap struct {
	pages map[uint32]*[1024]uint64
}

// add reports whether n is new.
func (b *bitmap) add(n uint32) bool {
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
