// Package swarm sends packets through the tunnels of many devices from one
// goroutine, so that a gateway is loaded with what a fleet is: packets of
// different tunnels in turn. Devices connect with real handshakes; their Child
// SAs are taken over here.
//
// What lives here: sealing, batches, pacing. What doesn't: IKE (package
// device), counting what arrives (package flow).
package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/checksum"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// Member is the way out of one device: a device.Forwarder that keeps the Child
// SA that is to be sent by. What comes to the device isn't opened.
type Member struct {
	mu       sync.Mutex
	children map[dataplane.SPI]*dataplane.Child
	seal     esp.Transform
	spi      uint32
	next     uint64
	virtual  netip.Addr
	path     dataplane.Path
	conn     *net.UDPConn
}

// Socket is the one that the device speaks by, for a swarm that sends by it.
func (m *Member) Socket(conn *net.UDPConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = conn
}

// NewMember has no Child SA yet.
func NewMember() *Member { return &Member{children: make(map[dataplane.SPI]*dataplane.Child)} }

func (m *Member) Reserve(netip.Addr) (dataplane.SPI, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		spi := dataplane.SPI(rand.Uint32())
		if _, taken := m.children[spi]; spi >= 256 && !taken {
			m.children[spi] = nil
			return spi, nil
		}
	}
}

func (m *Member) Apply(changes []dataplane.Change) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := make([]error, len(changes))
	for i, c := range changes {
		errs[i] = m.apply(c)
	}
	return errs
}

func (m *Member) apply(c dataplane.Change) error {
	switch c := c.(type) {
	case dataplane.Install:
		child := c.Child
		child.Outbound.Keys = child.Outbound.Keys.Clone()
		m.children[child.Inbound.SPI] = &child
	case dataplane.UseOutbound:
		child := m.children[c.Inbound]
		if child == nil {
			return dataplane.ErrUnknownSPI
		}
		return m.use(child)
	case dataplane.Move:
		child := m.children[c.Inbound]
		if child == nil {
			return dataplane.ErrUnknownSPI
		}
		child.Path, m.path = c.Path, c.Path
	case dataplane.Regroup:
	case dataplane.Remove:
		if child := m.children[c.Inbound]; child != nil {
			child.Outbound.Keys.Erase()
		}
		delete(m.children, c.Inbound)
	}
	return nil
}

func (m *Member) use(child *dataplane.Child) error {
	seal, err := esp.New(child.Algorithm, child.Outbound.Keys, child.ESN)
	if err != nil {
		return err
	}
	m.seal, m.spi, m.next, m.path = seal, uint32(child.Outbound.SPI), 1, child.Path
	if len(child.VirtualIPs) > 0 {
		m.virtual = child.VirtualIPs[0]
	}
	return nil
}

// errNotUp: the device has no Child SA that packets can be sent by.
var errNotUp = errors.New("no Child SA")

// ready says whether packets can be sent.
func (m *Member) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.seal == nil:
		return errNotUp
	case !m.virtual.Is4():
		return fmt.Errorf("virtual address %v: only IPv4 is sent", m.virtual)
	}
	return nil
}

// put makes b an ESP packet that carries a UDP datagram in an IP packet of size
// octets to a host, whose payload fill begins, at most filled octets, and returns
// it. What follows is zero.
func (m *Member) put(b []byte, size int, to netip.AddrPort, fill func(payload []byte)) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	inner := b[m.seal.HeaderLen():][:size]
	clear(inner[ipUDPLen:])
	fill(inner[ipUDPLen:])
	ipUDP(inner, m.virtual, to, fromPort, true)
	packet := m.seal.Seal(b, size, protoIPv4, m.spi, m.next)
	m.next++
	return packet
}

const (
	protoIPv4 = 4
	ipUDPLen  = 28
	// fromPort is the inner source port.
	fromPort = 5202
	// filled octets of a payload at most.
	filled = 64
)

// ipUDP writes an IPv4 header, with DF, and a UDP header before a payload. Without
// a sum the UDP checksum is zero, which UDP over IPv4 may do (RFC 768); with it
// the payload has at most filled octets that aren't zero.
func ipUDP(b []byte, from netip.Addr, to netip.AddrPort, port uint16, sum bool) {
	src, dst := from.As4(), to.Addr().As4()
	copy(b, []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0})
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	checksum.Put(b[10:12], checksum.Sum(b[:20], 0))
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
	b[26], b[27] = 0, 0
	if !sum {
		return
	}
	udp := b[20:min(len(b), ipUDPLen+filled)]
	checksum.Put(b[26:28], checksum.Sum(udp, checksum.Pseudo(b[12:20], unix.IPPROTO_UDP, len(b)-20)))
}

// Packet is an IPv4 packet with a UDP datagram.
func Packet(from netip.Addr, to netip.AddrPort, port uint16, payload []byte) []byte {
	b := make([]byte, ipUDPLen+len(payload))
	ipUDP(b, from, to, port, false)
	copy(b[ipUDPLen:], payload)
	return b
}
