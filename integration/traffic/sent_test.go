package traffic

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// What the gateway sends to a device is named; what comes from it, and what kernels
// tell each other, is not.
func TestSent(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "sent.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, frame := range [][]byte{
		udpFrame(gateway, device, []byte{0xff}),
		udpFrame(device, gateway, []byte{0xff}),
		rawFrame(gateway, device, 7000, 1),
		icmpv6Frame(t, layers.ICMPv6TypeNeighborSolicitation),
		icmpv6Frame(t, layers.ICMPv6TypeDestinationUnreachable),
	} {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(frame), Length: len(frame)}
		if err := w.WritePacket(info, frame); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Sent(file.Name(), gateway.Addr(), gateway6.Addr())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"IPv4 10.1.0.1->10.1.0.2 UDP 4500", "SPI 00001b58 sequence number 1", "ICMPv6"}
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%q says nothing of %q", got[i], want[i])
		}
	}
	if got, err := Sent(file.Name(), netip.MustParseAddr("10.9.9.9")); err != nil || len(got) != 0 {
		t.Errorf("%q, %v from an address that sent nothing", got, err)
	}
}

func icmpv6Frame(t *testing.T, kind uint8) []byte {
	t.Helper()
	ip := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: gateway6.Addr().AsSlice(), DstIP: device6.Addr().AsSlice(),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv6}, ip, icmp, gopacket.Payload(make([]byte, 20)))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
