package capture

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
)

// datagram as a dissector reads it.
type datagram struct {
	from, to netip.AddrPort
	payload  string
}

func read(t *testing.T, path string) (all []datagram) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if r.LinkType() != layers.LinkTypeRaw {
		t.Fatalf("link type %v", r.LinkType())
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil || info.Length != len(data) || info.Timestamp.IsZero() {
			t.Fatal(info, err)
		}
		first := gopacket.LayerType(layers.LayerTypeIPv4)
		if data[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(data, first, gopacket.Default)
		udp, ok := p.TransportLayer().(*layers.UDP)
		if !ok {
			t.Fatalf("no UDP in %x: %v", data, p.ErrorLayer())
		}
		flow := p.NetworkLayer().NetworkFlow()
		at := func(e gopacket.Endpoint, port layers.UDPPort) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(e.String()), uint16(port))
		}
		all = append(all, datagram{at(flow.Src(), udp.SrcPort), at(flow.Dst(), udp.DstPort), string(udp.LayerPayload())})
	}
}

func mustOpen(t *testing.T, c Config) *Capture {
	t.Helper()
	out, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	ikeInUDP = "\x00\x00\x00\x00an IKE message"
	espInUDP = "\x00\x00\x01\x00an ESP packet"
)

// TestSocket: a device that listens at all addresses speaks with a gateway; in the
// file both have their addresses, and no more ESP stands there than there may be.
func TestSocket(t *testing.T) {
	gateway, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	natt := gateway.LocalAddr().(*net.UDPAddr).AddrPort()
	path := filepath.Join(t.TempDir(), "a.pcap")
	c := mustOpen(t, Config{Pcap: path, GatewayNATT: natt, ESP: 2})
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Socket(conn)
	defer s.Close()
	own := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	buf := make([]byte, 100)
	for _, text := range []string{ikeInUDP, espInUDP, espInUDP, espInUDP, ikeInUDP} {
		if _, err := s.WriteToUDPAddrPort([]byte(text), natt); err != nil {
			t.Fatal(err)
		}
		if _, _, err := gateway.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gateway.WriteToUDPAddrPort([]byte(ikeInUDP+" back"), own); err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != ikeInUDP+" back" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	summary, err := c.Close()
	if err != nil || summary != (Summary{Written: 5, Beyond: 1}) {
		t.Errorf("%+v, %v", summary, err)
	}
	want := []datagram{{own, natt, ikeInUDP}, {own, natt, espInUDP}, {own, natt, espInUDP}, {own, natt, ikeInUDP}, {natt, own, ikeInUDP + " back"}}
	got := read(t, path)
	if len(got) != len(want) {
		t.Fatalf("%d datagrams: %v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %v, want %v", i, got[i], want[i])
		}
	}
	if _, err := s.WriteToUDPAddrPort([]byte(ikeInUDP), natt); err != nil { // after the end
		t.Error(err)
	}
}

func TestIPv6(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pcap")
	from, to := netip.MustParseAddrPort("[2001:db8::2]:4500"), netip.MustParseAddrPort("[2001:db8::1]:4500")
	c := mustOpen(t, Config{Pcap: path, GatewayNATT: to, ESP: 1})
	c.Datagram([]byte(espInUDP), from, to)
	if s, err := c.Close(); err != nil || s.Written != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if got := read(t, path); len(got) != 1 || got[0] != (datagram{from, to, espInUDP}) {
		t.Error(got)
	}
}

// TestNobodyWaits: where the file is too slow, datagrams are counted, not waited
// for.
func TestNobodyWaits(t *testing.T) {
	stuck := &Capture{cfg: Config{Pcap: "x", Queue: 4}, queue: make(chan entry, 4)} // nobody reads
	for range 10 {
		stuck.Datagram([]byte(ikeInUDP), netip.AddrPort{}, netip.AddrPort{})
	}
	if missed, waiting := stuck.missed.Load(), len(stuck.queue); missed != 7 || waiting != 3 {
		t.Errorf("%d missed, %d wait", missed, waiting)
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, Config{Keys: dir, GatewayNATT: netip.MustParseAddrPort("127.0.0.1:4500")})
	var cfg device.Config
	c.Device(&cfg)
	if !cfg.ExportKeys {
		t.Error("devices don't tell keys")
	}
	cfg.Observe(ike.Established{})
	cfg.Observe(ike.KeysDerived{IKE: &ike.IKEKeyLog{
		InitiatorSPI: 1, ResponderSPI: 2, Encryption: ikewire.EncrAESGCM16, KeyBits: 128, Ei: make([]byte, 20), Er: make([]byte, 20),
	}})
	cfg.Observe(ike.KeysDerived{Child: &ike.ChildKeyLog{Gateway: netip.IPv4Unspecified(), Peer: netip.MustParseAddr("127.0.0.1")}})
	c.Datagram([]byte(ikeInUDP), netip.AddrPort{}, netip.AddrPort{}) // no file for it
	if s, err := c.Close(); err != nil || s != (Summary{Keys: 2}) {
		t.Errorf("%+v, %v", s, err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "esp_sa"))
	if err != nil || strings.Contains(string(table), "0.0.0.0") || strings.Count(string(table), `"127.0.0.1","127.0.0.1"`) != 2 {
		t.Errorf("%s, %v", table, err)
	}
}

func TestOpenFails(t *testing.T) {
	_, err := Open(Config{Pcap: filepath.Join(t.TempDir(), "nowhere", "a.pcap"), Keys: t.TempDir()})
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
