package userspace

import (
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

var (
	virtual4 = netip.MustParseAddr("10.9.0.7")
	virtual6 = netip.MustParseAddr("fd00:9::7")
	host4    = netip.MustParseAddr("10.2.0.2")
	host6    = netip.MustParseAddr("fd00:2::2")
	up4      = dptest.IP{Src: virtual4, Dst: host4}
	down4    = dptest.IP{Src: host4, Dst: virtual4}
	up6      = dptest.IP{Src: virtual6, Dst: host6}
	down6    = dptest.IP{Src: host6, Dst: virtual6}

	gcm128 = dataplane.Algorithm{Encryption: 20, KeyBits: 128}
)

// peer is a device with one Child SA and a socket of package encap, which shows
// and sets TOS.
type peer struct {
	*harness
	t          *testing.T
	socket     *encap.Socket
	receiver   *encap.Receiver
	sender     *encap.Sender
	child      dataplane.Child
	seal, open esp.Transform
	next       uint64
	pollSet    []unix.PollFd
	// Of the receiver's batch, how many arrived, and how many were looked at.
	arrived, taken int
}

// newChild describes a child to the peer at remote under a reserved SPI.
func newChild(t *testing.T, h *harness, remote netip.AddrPort) dataplane.Child {
	t.Helper()
	spi, err := h.backend.Reserve(virtual4)
	if err != nil {
		t.Fatal(err)
	}
	keys := func() dataplane.Keys {
		k := make([]byte, 20)
		rand.Read(k)
		return dataplane.Keys{Encryption: k, Integrity: []byte{}}
	}
	all := func(first, last string) dataplane.Selector {
		return dataplane.Selector{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last), LastPort: 0xFFFF}
	}
	return dataplane.Child{
		Inbound: dataplane.SA{SPI: spi, Keys: keys()}, Outbound: dataplane.SA{SPI: 0xC0FFEE, Keys: keys()},
		Algorithm: gcm128, VirtualIPs: []netip.Addr{virtual4, virtual6},
		Local:  []dataplane.Selector{all("10.2.0.0", "10.2.0.255"), all("fd00:2::", "fd00:2::ffff")},
		Remote: []dataplane.Selector{all("10.9.0.0", "10.9.0.255"), all("fd00:9::", "fd00:9::ffff")},
		Path:   dataplane.Path{Local: h.Encap, Remote: remote},
	}
}

func newPeer(t *testing.T, h *harness, edit func(*dataplane.Child)) *peer {
	t.Helper()
	p := &peer{harness: h, t: t, next: 1}
	var err error
	if p.socket, err = encap.Listen(netip.AddrPortFrom(h.Encap.Addr(), 0), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.socket.Close() })
	p.receiver = encap.NewReceiver(batch)
	p.sender = encap.NewSender(p.socket, batch, encap.MaxDatagram)
	p.pollSet = []unix.PollFd{{Fd: int32(p.socket.FD()), Events: unix.POLLIN}}
	p.child = newChild(t, h, p.socket.Local())
	if edit != nil {
		edit(&p.child)
	}
	if p.seal, err = esp.New(p.child.Algorithm, p.child.Inbound.Keys, p.child.ESN); err != nil {
		t.Fatal(err)
	}
	if p.open, err = esp.New(p.child.Algorithm, p.child.Outbound.Keys, p.child.ESN); err != nil {
		t.Fatal(err)
	}
	for _, err := range h.backend.Apply([]dataplane.Change{dataplane.Install{Child: p.child}, dataplane.UseOutbound{Inbound: p.child.Inbound.SPI}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// queue seals inner with the next sequence number into the sender.
func (p *peer) queue(inner []byte, nextHeader byte, tos uint8) {
	b := p.sender.Buffer()
	copy(b[p.seal.HeaderLen():], inner)
	n := len(p.seal.Seal(b, len(inner), nextHeader, uint32(p.child.Inbound.SPI), p.next))
	p.next++
	p.sender.Push(n, p.Encap, tos)
}

// raw sends one datagram as it is.
func (p *peer) raw(data []byte, to netip.AddrPort) {
	p.t.Helper()
	p.sender.Push(copy(p.sender.Buffer(), data), to, 0)
	p.flush()
}

func (p *peer) flush() {
	p.t.Helper()
	if refused := p.sender.Flush(); refused != 0 {
		p.t.Fatalf("%d of the peer's datagrams were refused", refused)
	}
}

// up sends one IPv4 or IPv6 packet.
func (p *peer) up(inner []byte, tos uint8) {
	p.t.Helper()
	p.queue(inner, nextHeaderOf(inner), tos)
	p.flush()
}

func nextHeaderOf(inner []byte) byte {
	if inner[0]>>4 == 6 {
		return protoIPv6
	}
	return protoIPv4
}

// inside waits for a packet at the host behind the gateway.
func (p *peer) inside() []byte {
	p.t.Helper()
	packet, ok := p.pipe.Receive(10 * time.Second)
	if !ok {
		p.t.Fatalf("nothing came to the inside; drops %v", p.backend.Drops())
	}
	return packet
}

// down hands a packet to the inside and waits for what comes to the device:
// the inner packet, and the TOS octet of the outer one.
func (p *peer) down(packet []byte) (inner []byte, tos uint8) {
	p.t.Helper()
	if err := p.pipe.Send(packet); err != nil {
		p.t.Fatal(err)
	}
	return p.arrival()
}

// arrival waits for the next datagram at the device.
func (p *peer) arrival() (inner []byte, tos uint8) {
	p.t.Helper()
	if p.taken == p.arrived {
		p.taken, p.arrived = 0, p.wait(batch)
	}
	d := p.receiver.Datagram(p.taken)
	p.taken++
	room := 1500 - ipv4HeaderLen - udpHeaderLen
	if d.Remote.Addr().Is6() {
		room = 1500 - ipv6HeaderLen - udpHeaderLen
	}
	if len(d.Payload) > room {
		p.t.Errorf("an ESP packet of %d octets doesn't fit through the path", len(d.Payload))
	}
	inner, _, err := p.open.Open(d.Payload, uint64(p.sequence(d.Payload)))
	if err != nil {
		p.t.Fatal(err)
	}
	return inner, d.TOS
}

func (p *peer) sequence(packet []byte) uint32 {
	return uint32(packet[4])<<24 | uint32(packet[5])<<16 | uint32(packet[6])<<8 | uint32(packet[7])
}

// wait takes one batch from the peer's socket, of at most some datagrams.
func (p *peer) wait(most int) int {
	p.t.Helper()
	for range 1000 {
		if n := p.receiver.Receive(p.socket); n > 0 {
			return min(n, most)
		}
		unix.Poll(p.pollSet, 10)
	}
	p.t.Fatalf("nothing came to the device; drops %v", p.backend.Drops())
	return 0
}

// dropped waits until at least n packets were dropped for that reason.
func (h *harness) dropped(t *testing.T, reason dataplane.Reason, n uint64) dataplane.Drops {
	t.Helper()
	for range 10_000 {
		if drops := h.backend.Drops(); drops[reason] >= n {
			return drops
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no drop for %v; drops %v", reason, h.backend.Drops())
	return dataplane.Drops{}
}

// frame has a virtio header with a GSO type before the packet.
func frame(packet []byte, gsoType byte, size, checksumStart, checksumOffset int) []byte {
	f := make([]byte, tun.HeaderLen, tun.HeaderLen+len(packet))
	f[0], f[1] = 1, gsoType
	f[4], f[5] = byte(size), byte(size>>8)
	f[6], f[8] = byte(checksumStart), byte(checksumOffset)
	return append(f, packet...)
}
