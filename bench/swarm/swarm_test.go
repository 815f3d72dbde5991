package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

var (
	virtual = netip.MustParseAddr("10.9.0.7")
	to      = netip.MustParseAddrPort("10.2.0.2:5202")
	gcm     = dataplane.Algorithm{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}
)

func keys(b byte) dataplane.Keys { return dataplane.Keys{Encryption: bytes.Repeat([]byte{b}, 20)} }

func up(t *testing.T) (*Member, dataplane.SPI) {
	t.Helper()
	m := NewMember()
	if !errors.Is(m.ready(), errNotUp) {
		t.Error("ready without a Child SA")
	}
	spi, err := m.Reserve(virtual)
	if err != nil {
		t.Fatal(err)
	}
	path := dataplane.Path{Local: netip.MustParseAddrPort("10.1.0.2:4500"), Remote: netip.MustParseAddrPort("10.1.0.1:4500")}
	child := dataplane.Child{
		Inbound: dataplane.SA{SPI: spi, Keys: keys(1)}, Outbound: dataplane.SA{SPI: 0x4711, Keys: keys(2)},
		Algorithm: gcm, VirtualIPs: []netip.Addr{virtual}, Path: path,
	}
	for _, err := range m.Apply([]dataplane.Change{dataplane.Install{Child: child}, dataplane.UseOutbound{Inbound: spi}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	child.EraseKeys() // as the device does
	if err := m.ready(); err != nil {
		t.Fatal(err)
	}
	return m, spi
}

// What a member seals, the gateway opens: an IP packet of the size asked for,
// which a decoder that we didn't write takes for good, under numbers that go on.
func TestMember(t *testing.T) {
	m, _ := up(t)
	open, err := esp.New(gcm, keys(2), false)
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{64, 65, 93, 594, 1400} {
		packet := m.put(make([]byte, room), size, to, func(payload []byte) { copy(payload, "0123456789") })
		if spi, seq := binary.BigEndian.Uint32(packet), binary.BigEndian.Uint32(packet[4:]); spi != 0x4711 || seq != uint32(i+1) {
			t.Errorf("SPI %#x, sequence number %d", spi, seq)
		}
		inner, next, err := open.Open(packet, uint64(i+1))
		if err != nil || next != protoIPv4 || len(inner) != size {
			t.Fatalf("%d octets, next header %d, %v; want %d", len(inner), next, err, size)
		}
		p := gopacket.NewPacket(inner, layers.LayerTypeIPv4, gopacket.Default)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if ip == nil || udp == nil || p.ErrorLayer() != nil {
			t.Fatalf("not UDP over IPv4: %v", p)
		}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		have := udp.Checksum
		again := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(again, gopacket.SerializeOptions{ComputeChecksums: true}, udp, gopacket.Payload(udp.Payload)); err != nil || udp.Checksum != have {
			t.Errorf("UDP checksum %#x of %d octets, want %#x, %v", have, size, udp.Checksum, err)
		}
		sum := ip.Checksum
		buffer := gopacket.NewSerializeBuffer()
		if err := ip.SerializeTo(buffer, gopacket.SerializeOptions{ComputeChecksums: true}); err != nil || ip.Checksum != sum {
			t.Errorf("checksum %#x, want %#x, %v", sum, ip.Checksum, err)
		}
		if ip.SrcIP.String() != virtual.String() || ip.DstIP.String() != to.Addr().String() || uint16(udp.DstPort) != to.Port() ||
			int(udp.Length) != size-20 || !bytes.HasPrefix(udp.Payload, []byte("0123456789")) {
			t.Errorf("%v %v", ip, udp)
		}
	}
}

// A removed Child SA's keys are erased, and what isn't there can't be used.
func TestRemove(t *testing.T) {
	m, spi := up(t)
	kept := m.children[spi].Outbound.Keys
	for _, c := range []dataplane.Change{dataplane.UseOutbound{Inbound: spi + 1}, dataplane.Move{Inbound: spi + 1}} {
		if errs := m.Apply([]dataplane.Change{c}); !errors.Is(errs[0], dataplane.ErrUnknownSPI) {
			t.Errorf("%T: %v", c, errs[0])
		}
	}
	m.Apply([]dataplane.Change{dataplane.Remove{Inbound: spi}})
	if !bytes.Equal(kept.Encryption, make([]byte, 20)) || len(m.children) != 0 {
		t.Error("keys are left")
	}
}

// A burst is one message to the kernel and packets of one size to the gateway, each
// with a number of its own.
func TestGSO(t *testing.T) {
	m, _ := up(t)
	gateway, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &Swarm{members: []*Member{m}}
	const burst = 32
	p := Plan{To: to, Mix: flow.Mix{64}, Burst: burst, GSO: true}
	if err := s.prepareGSO(p); err == nil {
		t.Error("ready without a socket")
	}
	m.Socket(conn)
	m.path.Remote = gateway.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, mix := range []flow.Mix{{64, 65}, {1400}} {
		if err := s.prepareGSO(Plan{To: to, Mix: mix, Burst: 64, GSO: true}); err == nil {
			t.Errorf("%v can't be one message of 64", mix)
		}
	}
	if err := s.prepareGSO(p); err != nil {
		t.Fatal(err)
	}
	if done, refused, err := s.gso(p); err != nil || done != burst || refused != 0 {
		t.Fatalf("%d sent, %d refused, %v", done, refused, err)
	}
	open, err := esp.New(gcm, keys(2), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	for i := range uint64(burst) {
		n, _, err := gateway.ReadFromUDPAddrPort(b)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		inner, _, err := open.Open(b[:n], i+1)
		if err != nil || len(inner) != 64 || binary.BigEndian.Uint64(inner[ipUDPLen:]) != i {
			t.Fatalf("packet %d: %d octets, %v", i, len(inner), err)
		}
	}
}
