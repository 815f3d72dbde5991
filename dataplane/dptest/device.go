package dptest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// Addresses of the scenarios.
var (
	virtual4 = netip.MustParseAddr("10.9.0.7")
	virtual6 = netip.MustParseAddr("fd00:9::7")
	host4    = netip.MustParseAddr("10.2.0.2")
	host6    = netip.MustParseAddr("fd00:2::2")

	// mark stands in every payload of the suite.
	mark = []byte("dptest ")

	uplink4   = IP{Src: virtual4, Dst: host4}
	downlink4 = IP{Src: host4, Dst: virtual4}
	uplink6   = IP{Src: virtual6, Dst: host6}
	downlink6 = IP{Src: host6, Dst: virtual6}
)

const (
	devicePort = 4711
	hostPort   = 7
)

var payloads atomic.Uint64

// payload is another one at each call.
func payload() []byte { return fmt.Appendf(nil, "%s%08d", mark, payloads.Add(1)) }

// device has one socket on the outside.
type device struct {
	t        *testing.T
	conn     net.PacketConn
	received chan []byte
}

// device opens a device, which records the ESP it receives.
func (e *env) device() *device {
	e.Helper()
	return e.deviceAt(&e.Local)
}

// deviceAt opens one that reaches that address of the gateway.
func (e *env) deviceAt(at *Local) *device {
	e.Helper()
	return e.deviceOn(at.Outside(e.T), at)
}

// bothWaysOut opens a device with a socket for raw ESP and one for UDP.
func (e *env) bothWaysOut(at *Local) (esp, udp *device) {
	e.Helper()
	espConn, udpConn := at.Raw(e.T)
	return e.deviceOn(espConn, at), e.deviceOn(udpConn, at)
}

func (e *env) deviceOn(conn net.PacketConn, at *Local) *device {
	d := &device{t: e.T, conn: conn, received: make(chan []byte, 1024)}
	e.Cleanup(func() { d.conn.Close() })
	go d.read(e.wire, at.IKE)
	return d
}

// read records what has the look of ESP and doesn't come from the gateway's port
// for IKE alone.
func (d *device) read(wire *recorder, ike netip.AddrPort) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := d.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		packet := append([]byte(nil), buffer[:n]...)
		if len(packet) >= 8 && addrPort(from) != ike && binary.BigEndian.Uint32(packet) != 0 {
			wire.packet(packet)
		}
		select {
		case d.received <- packet:
		default: // recorded all the same
		}
	}
}

func (d *device) addr() netip.AddrPort {
	return addrPort(d.conn.LocalAddr())
}

// raw: it sends ESP directly over IP, where there are no ports.
func (d *device) raw() bool {
	_, raw := d.conn.LocalAddr().(*net.IPAddr)
	return raw
}

func (d *device) destination(to netip.AddrPort) net.Addr {
	if d.raw() {
		return &net.IPAddr{IP: to.Addr().AsSlice()}
	}
	return net.UDPAddrFromAddrPort(to)
}

func addrPort(a net.Addr) netip.AddrPort {
	if ip, raw := a.(*net.IPAddr); raw {
		addr, _ := netip.AddrFromSlice(ip.IP)
		return netip.AddrPortFrom(addr.Unmap(), 0)
	}
	ap := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (d *device) send(data []byte, to netip.AddrPort) {
	d.t.Helper()
	if _, err := d.conn.WriteTo(data, d.destination(to)); err != nil {
		d.t.Fatalf("device sends: %v", err)
	}
}

// receive waits for the next datagram.
func (d *device) receive() []byte {
	d.t.Helper()
	select {
	case p := <-d.received:
		return p
	case <-time.After(patience):
		d.t.Fatal("nothing came to the device")
		return nil
	}
}

// tunnel is the device's end of a Child SA.
type tunnel struct {
	*device
	gateway    netip.AddrPort
	child      dataplane.Child
	seal, open esp.Transform
	next       uint64
	window     esp.Window
}

// child describes a Child SA to a device that allows everything to and from its
// two virtual addresses, under an SPI that is reserved here.
func (e *env) child(d *device) dataplane.Child {
	e.Helper()
	path := e.pathFrom(&e.Local)
	if d != nil {
		path.Remote = d.addr()
		if d.raw() {
			path.Encapsulation = dataplane.EncapsulationNone
		}
	}
	alg := e.Backend.Features().Algorithms[0]
	return dataplane.Child{
		Inbound:    dataplane.SA{SPI: e.reserve(), Keys: newKeys(e.T, alg)},
		Outbound:   dataplane.SA{SPI: newSPI(), Keys: newKeys(e.T, alg)},
		Algorithm:  alg,
		VirtualIPs: []netip.Addr{virtual4, virtual6},
		Local:      []dataplane.Selector{anySelector("0.0.0.0", "255.255.255.255"), anySelector("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
		Remote:     []dataplane.Selector{anySelector(virtual4.String(), virtual4.String()), anySelector(virtual6.String(), virtual6.String())},
		Path:       path,
	}
}

// pathFrom is a path from there to nobody.
func (e *env) pathFrom(at *Local) dataplane.Path {
	path := dataplane.Path{Local: at.Encap, Remote: netip.MustParseAddrPort("192.0.2.1:4500")}
	if at.Encap.Addr().Is6() {
		path.Remote = netip.MustParseAddrPort("[2001:db8::1]:4500")
	}
	return path
}

func anySelector(first, last string) dataplane.Selector {
	return dataplane.Selector{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last), LastPort: 0xFFFF}
}

func newKeys(t *testing.T, alg dataplane.Algorithm) dataplane.Keys {
	t.Helper()
	encryption, integrity, err := esp.KeyLen(alg)
	if err != nil {
		t.Fatalf("algorithm of the backend that package esp doesn't know: %v", err)
	}
	keys := dataplane.Keys{Encryption: make([]byte, encryption), Integrity: make([]byte, integrity)}
	rand.Read(keys.Encryption)
	rand.Read(keys.Integrity)
	return keys
}

// newSPI is an SPI of the device's choice, unlike all others.
func newSPI() dataplane.SPI {
	var b [4]byte
	rand.Read(b[:])
	return dataplane.SPI(binary.BigEndian.Uint32(b[:]) | 1<<31)
}

// tunnel is the end at the device of a child that is to be installed.
func (e *env) tunnel(d *device, child dataplane.Child) *tunnel {
	e.Helper()
	u := &tunnel{device: d, gateway: e.Encap, child: child, next: 1}
	var err error
	if u.seal, err = esp.New(child.Algorithm, child.Inbound.Keys, child.ESN); err != nil {
		e.Fatal(err)
	}
	if u.open, err = esp.New(child.Algorithm, child.Outbound.Keys, child.ESN); err != nil {
		e.Fatal(err)
	}
	e.wire.expect(child.Outbound)
	return u
}

// connect installs a child, changed by edit, and puts it to use.
func (e *env) connect(d *device, edit func(*dataplane.Child)) *tunnel {
	e.Helper()
	child := e.child(d)
	if edit != nil {
		edit(&child)
	}
	u := e.tunnel(d, child)
	e.apply(dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: child.Inbound.SPI})
	return u
}

// sealed is the next ESP packet of the device around an inner packet.
func (u *tunnel) sealed(inner []byte) []byte {
	u.next++
	return u.sealedAs(inner, u.next-1)
}

func (u *tunnel) sealedAs(inner []byte, seq uint64) []byte {
	nextHeader := byte(4)
	if inner[0]>>4 == 6 {
		nextHeader = 41
	}
	packet := make([]byte, u.seal.SealedLen(len(inner)))
	copy(packet[u.seal.HeaderLen():], inner)
	return u.seal.Seal(packet, len(inner), nextHeader, uint32(u.child.Inbound.SPI), seq)
}

// roam makes the device go on with another socket and another address of the
// gateway.
func (u *tunnel) roam(d *device, gateway netip.AddrPort) { u.device, u.gateway = d, gateway }

// up sends an inner packet to the gateway.
func (u *tunnel) up(inner []byte) {
	u.t.Helper()
	u.send(u.sealed(inner), u.gateway)
}

// down waits for the next inner packet from the gateway and returns its
// sequence number too.
func (u *tunnel) down() (inner []byte, seq uint64) {
	u.t.Helper()
	inner, seq, err := u.opened(u.receive())
	if err != nil {
		u.t.Fatalf("device can't open the gateway's packet: %v", err)
	}
	return inner, seq
}

var errNotMine = errors.New("another SPI, or a replay")

func (u *tunnel) opened(packet []byte) (inner []byte, seq uint64, err error) {
	if len(packet) < 8 || binary.BigEndian.Uint32(packet) != uint32(u.child.Outbound.SPI) {
		return nil, 0, errNotMine
	}
	seq, verdict := u.window.Check(binary.BigEndian.Uint32(packet[4:]), u.child.ESN)
	if verdict != esp.Fresh {
		return nil, seq, errNotMine
	}
	inner, _, err = u.open.Open(packet, seq)
	if err != nil {
		return nil, seq, err
	}
	u.window.Advance(seq)
	return inner, seq, nil
}
