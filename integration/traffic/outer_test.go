package traffic

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

var (
	device   = netip.MustParseAddrPort("10.1.0.2:4500")
	gateway  = netip.MustParseAddrPort("10.1.0.1:4500")
	device6  = netip.MustParseAddrPort("[fd00:1::2]:4500")
	gateway6 = netip.MustParseAddrPort("[fd00:1::1]:4500")
)

// elsewhere is another address of the device.
var elsewhere = netip.MustParseAddrPort("10.1.0.3:4500")

// rawFrame of ESP directly over IPv4: a frame of UDP with another protocol, and
// without its header.
func rawFrame(from, to netip.AddrPort, spi, sequence uint32) []byte {
	esp := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, spi), sequence)
	const ethernet, ip, udp = 14, 20, 8
	frame := udpFrame(from, to, append(esp, make([]byte, 32)...))
	frame = append(frame[:ethernet+ip:ethernet+ip], frame[ethernet+ip+udp:]...)
	frame[ethernet+9] = 50
	binary.BigEndian.PutUint16(frame[ethernet+2:], uint16(len(frame)-ethernet))
	return frame
}

// The recorder is tried on wires that break the invariant, so that its silence
// means something.
func TestRecorderCatchesReuse(t *testing.T) {
	esp := func(from, to netip.AddrPort, spi, sequence uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, spi)
		return udpFrame(from, to, append(binary.BigEndian.AppendUint32(b, sequence), make([]byte, 32)...))
	}
	ike := append(make([]byte, 4), make([]byte, 28)...)
	keepalive := []byte{0xff}
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   error
		sas    int
		// overtaken by packets with higher numbers
		overtaken int
	}{
		{name: "numbers that grow", frames: [][]byte{esp(device, gateway, 7000, 1), esp(device, gateway, 7000, 2), esp(device, gateway, 7000, 3)}, sas: 1},
		{name: "out of order", frames: [][]byte{esp(device, gateway, 7000, 90000), esp(device, gateway, 7000, 2)}, sas: 1, overtaken: 1},
		{name: "IPv6", frames: [][]byte{esp(device6, gateway6, 7000, 1), esp(gateway6, device6, 7001, 1)}, sas: 2},
		{name: "twice, IPv6", frames: [][]byte{esp(device6, gateway6, 7000, 1), esp(device6, gateway6, 7000, 1)}, want: ErrReused, sas: 1},
		{name: "one number of two SAs", frames: [][]byte{esp(device, gateway, 7000, 1), esp(device, gateway, 7001, 1), esp(gateway, device, 7000, 1)}, sas: 3},
		{name: "twice", frames: [][]byte{esp(device, gateway, 7000, 1), esp(device, gateway, 7000, 2), esp(device, gateway, 7000, 1)}, want: ErrReused, sas: 1, overtaken: 1},
		{name: "twice from another port", frames: [][]byte{esp(device, gateway, 7000, 1), esp(netip.MustParseAddrPort("10.1.0.2:61000"), gateway, 7000, 1)}, want: ErrReused, sas: 1},
		{name: "twice, the sender has moved", frames: [][]byte{esp(device, gateway, 7000, 1), esp(elsewhere, gateway, 7000, 1)}, want: ErrReused, sas: 2},
		{name: "twice, the receiver has moved", frames: [][]byte{esp(gateway, device, 7000, 1), esp(gateway, elsewhere, 7000, 1)}, want: ErrReused, sas: 2},
		{name: "directly over IP", frames: [][]byte{rawFrame(device, gateway, 7000, 1), rawFrame(gateway, device, 7001, 1), rawFrame(device, gateway, 7000, 2)}, sas: 2},
		{name: "twice, in UDP and directly over IP", frames: [][]byte{esp(device, gateway, 7000, 1), rawFrame(device, gateway, 7000, 1)}, want: ErrReused, sas: 1},
		{name: "IKE and keepalives are no ESP", frames: [][]byte{udpFrame(device, gateway, ike), udpFrame(device, gateway, ike), udpFrame(device, gateway, keepalive)}},
		{name: "many datagrams in one frame", frames: [][]byte{udpFrame(gateway, device, make([]byte, 4000))}, want: ErrSegmented},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec, err := CheckSequences(pcapOf(t, c.frames))
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if rec.SAs != c.sas {
				t.Errorf("%d SAs, want %d", rec.SAs, c.sas)
			}
			if rec.Overtaken != c.overtaken {
				t.Errorf("%d overtaken, want %d", rec.Overtaken, c.overtaken)
			}
		})
	}
}

func TestIKEMessagesOfACapture(t *testing.T) {
	at500 := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 500) }
	message := make([]byte, 28)
	message[17] = 0x20
	path := pcapOf(t, [][]byte{
		udpFrame(at500(device), at500(gateway), message),
		udpFrame(device, gateway, append(make([]byte, 4), message...)),
		udpFrame(device, gateway, []byte{1, 2, 3, 4, 0, 0, 0, 1}),
		udpFrame(device, gateway, []byte{0xff}),
	})
	found := 0
	err := ReadDatagrams(path, func(d Datagram) error {
		if m, ok := d.IKE(); ok {
			found++
			if len(m) != 28 || m[17] != 0x20 {
				t.Errorf("message %x", m)
			}
		}
		return nil
	})
	if err != nil || found != 2 {
		t.Errorf("%d messages, %v; want 2", found, err)
	}
}

// A frame may be cut anywhere: by the capture, or by whoever sent it.
func TestCutFrames(t *testing.T) {
	for _, c := range []struct {
		from, to netip.AddrPort
		headers  int
	}{{device, gateway, 14 + 20 + 8}, {device6, gateway6, 14 + 40 + 8}} {
		whole := udpFrame(c.from, c.to, make([]byte, 40))
		var h headers
		for n := range whole {
			if d, ok := h.datagram(whole[:n]); ok && len(d.Data) != max(0, n-c.headers) {
				t.Errorf("%d octets of a frame: %d octets of data", n, len(d.Data))
			}
		}
	}
}

// Of a datagram that IPv6 fragmented, the first fragment counts.
func TestFragmentsOfIPv6(t *testing.T) {
	for _, c := range []struct {
		offset uint16
		ok     bool
	}{{0, true}, {150, false}} {
		frame := udpFrame(device6, gateway6, make([]byte, 40))
		const ip = 14
		fragment := []byte{byte(layers.IPProtocolUDP), 0, 0, 0, 1, 2, 3, 4}
		binary.BigEndian.PutUint16(fragment[2:], c.offset<<3|1)
		frame[ip+6] = byte(layers.IPProtocolIPv6Fragment)
		binary.BigEndian.PutUint16(frame[ip+4:], binary.BigEndian.Uint16(frame[ip+4:])+8)
		frame = slices.Insert(frame, ip+40, fragment...)
		var h headers
		d, ok := h.datagram(frame)
		if ok != c.ok || ok && (d.From != device6 || d.To != gateway6 || len(d.Data) != 40) {
			t.Errorf("offset %d: %+v, %t", c.offset, d, ok)
		}
	}
}

func pcapOf(t *testing.T, frames [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(info, f); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func udpFrame(from, to netip.AddrPort, payload []byte) []byte {
	b := gopacket.NewSerializeBuffer()
	ethernet := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer = &layers.IPv4{Version: 4, IHL: 5, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	if from.Addr().Is6() {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		ethernet, ip,
		&layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())},
		gopacket.Payload(payload))
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}
