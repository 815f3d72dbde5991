// Package capture writes what the devices of a bench send and receive into a
// pcap file, and the keys of their SAs where Wireshark finds them, so that a
// dissector reads IKE and ESP in the clear.
//
// What lives here: the queue between devices and the file, and the headers that
// sockets don't show. What doesn't: the format of keys (package keylog), capturing
// on an interface (tcpdump, or package traffic for tests).
//
// Whoever sends never waits for the file: it copies the datagram into a bounded
// queue, and what doesn't fit isn't written but counted.
package capture

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/keylog"
)

// Config of a Capture. It has a file, a folder of keys or both.
type Config struct {
	// Pcap is the file of packets: IP packets with no link layer below
	// (LINKTYPE_RAW). A file that is there is replaced.
	Pcap string
	// Keys is a folder for Wireshark's tables ikev2_decryption_table and esp_sa,
	// see keylog. Tables that are there are appended to.
	Keys string
	// ESP is how many packets of ESP are written, and keepalives with them. IKE
	// messages are written until the file has maxFile octets.
	ESP uint64
	// GatewayNATT is the gateway's port for ESP in UDP.
	GatewayNATT netip.AddrPort
	// Queue is how many datagrams may wait to be written; 0 is 8,192.
	Queue int
}

const (
	defaultQueue = 8192
	// maxFile in octets. A file that dissectors can't hold helps nobody.
	maxFile = 1 << 30
	// maxPacket is what an IP packet has at most.
	maxPacket = 65535
)

// Summary of what was written.
type Summary struct {
	// Written datagrams; Missed had no room in the queue; Beyond came when the
	// file, or its share of ESP, was full.
	Written, Missed, Beyond uint64
	// Keys that were written, of IKE SAs and pairs of Child SAs; KeysMissed as
	// above.
	Keys, KeysMissed uint64
}

// Capture takes datagrams and keys from any goroutine until Close.
type Capture struct {
	cfg   Config
	local netip.Addr // that a device has which listens at all addresses
	queue chan entry
	done  chan error

	closed                                        atomic.Bool
	esp                                           atomic.Uint64 // packets seen
	written, missed, beyond, exported, keysMissed atomic.Uint64
}

// entry is a datagram, or keys.
type entry struct {
	at       time.Time
	data     []byte
	from, to netip.AddrPort
	keys     *ike.KeysDerived
}

// Open the files. Errors: those of the system.
func Open(c Config) (*Capture, error) {
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	out := &Capture{cfg: c, queue: make(chan entry, c.Queue), done: make(chan error, 1), local: leavesBy(c.GatewayNATT)}
	w := &writer{capture: out, serialize: gopacket.NewSerializeBuffer()}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	go func() { out.done <- w.run() }()
	return out, nil
}

// leavesBy is the address that packets for a gateway come from, as far as the
// routing table says. Nothing is sent.
func leavesBy(gateway netip.AddrPort) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(gateway))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// Close writes what waits. What comes later isn't taken.
func (c *Capture) Close() (Summary, error) {
	c.closed.Store(true)
	c.queue <- entry{} // the last
	err := <-c.done
	return Summary{
		Written: c.written.Load(), Missed: c.missed.Load(), Beyond: c.beyond.Load(),
		Keys: c.exported.Load(), KeysMissed: c.keysMissed.Load(),
	}, err
}

// Datagram notes one; data stays the caller's.
func (c *Capture) Datagram(data []byte, from, to netip.AddrPort) {
	if c.cfg.Pcap == "" || c.closed.Load() || len(data) == 0 {
		return
	}
	if c.isESP(data, from, to) && c.esp.Add(1) > c.cfg.ESP {
		c.beyond.Add(1)
		return
	}
	if len(c.queue) >= c.cfg.Queue-1 { // before the copy is made; a place is Close's
		c.missed.Add(1)
		return
	}
	select {
	case c.queue <- entry{at: time.Now(), data: append([]byte(nil), data...), from: from, to: to}:
	default:
		c.missed.Add(1)
	}
}

// isESP: on the port for both, IKE has four octets of zeros before it (RFC 3948
// section 2.2).
func (c *Capture) isESP(data []byte, from, to netip.AddrPort) bool {
	natt := c.cfg.GatewayNATT.Port()
	return (from.Port() == natt || to.Port() == natt) && (len(data) < 4 || data[0]|data[1]|data[2]|data[3] != 0)
}

// Observe is a device.Config's: it takes keys out of what IKE machines tell.
func (c *Capture) Observe(o ike.Output) {
	k, ok := o.(ike.KeysDerived)
	if !ok || c.cfg.Keys == "" || c.closed.Load() {
		return
	}
	select {
	case c.queue <- entry{keys: &k}:
	default:
		c.keysMissed.Add(1)
	}
}

// Device has a device's keys and datagrams noted.
func (c *Capture) Device(cfg *device.Config) {
	cfg.ExportKeys, cfg.Observe = c.cfg.Keys != "", c.Observe
}

// Socket is s, noting what it sends and receives.
func (c *Capture) Socket(s device.Socket) device.Socket {
	local, _ := s.LocalAddr().(*net.UDPAddr)
	if c.cfg.Pcap == "" || local == nil {
		return s
	}
	return &socket{Socket: s, capture: c, local: local.AddrPort()}
}

type socket struct {
	device.Socket
	capture *Capture
	local   netip.AddrPort
}

func (s *socket) ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error) {
	if n, from, err = s.Socket.ReadFromUDPAddrPort(b); err == nil {
		s.capture.Datagram(b[:n], from, s.local)
	}
	return n, from, err
}

func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	s.capture.Datagram(b, s.local, to) // before the answer can come
	return s.Socket.WriteToUDPAddrPort(b, to)
}

// writer owns the files.
type writer struct {
	capture   *Capture
	file      *os.File
	buffered  *bufio.Writer
	pcap      *pcapgo.Writer
	size      int
	keys      *keylog.Log
	serialize gopacket.SerializeBuffer
}

func (w *writer) open() (err error) {
	c := w.capture.cfg
	if c.Keys != "" {
		if w.keys, err = keylog.Open(keylog.Config{Dir: c.Keys}); err != nil {
			return err
		}
	}
	if c.Pcap == "" {
		return nil
	}
	if w.file, err = os.OpenFile(c.Pcap, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	w.buffered = bufio.NewWriterSize(w.file, 1<<20)
	w.pcap = pcapgo.NewWriterNanos(w.buffered)
	return w.pcap.WriteFileHeader(maxPacket, layers.LinkTypeRaw)
}

// run until the entry that is none. After an error it only empties the queue.
func (w *writer) run() (err error) {
	for e := range w.capture.queue {
		switch {
		case e.data == nil && e.keys == nil:
			return errors.Join(err, w.close())
		case err != nil:
			w.capture.missed.Add(1)
		case e.keys != nil:
			err = w.key(e.keys)
		default:
			err = w.packet(e)
		}
	}
	return err
}

func (w *writer) close() (err error) {
	if w.buffered != nil {
		err = w.buffered.Flush()
	}
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
	}
	if w.keys != nil {
		err = errors.Join(err, w.keys.Close())
	}
	return err
}

// key: Gateway is whose machine told of it, the device.
func (w *writer) key(k *ike.KeysDerived) error {
	if k.Child != nil && k.Child.Gateway.IsUnspecified() && w.capture.local.IsValid() {
		k.Child.Gateway = w.capture.local
	}
	w.capture.exported.Add(1)
	return w.keys.Add(*k)
}

// headers of IPv6 and UDP, and what pcap writes before a packet.
const headers = 40 + 8 + 16

func (w *writer) packet(e entry) error {
	if w.size += headers + len(e.data); w.size > maxFile {
		w.capture.beyond.Add(1)
		return nil
	}
	from, to := w.known(e.from), w.known(e.to)
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	var ip gopacket.SerializableLayer
	if to.Addr().Is4() {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ip = l
		_ = udp.SetNetworkLayerForChecksum(l)
	} else {
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ip = l
		_ = udp.SetNetworkLayerForChecksum(l)
	}
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(w.serialize, options, ip, udp, gopacket.Payload(e.data)); err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	packet := w.serialize.Bytes()
	w.capture.written.Add(1)
	return w.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: e.at, CaptureLength: len(packet), Length: len(packet)}, packet)
}

// known is an address of a packet, as far as that can be told.
func (w *writer) known(a netip.AddrPort) netip.AddrPort {
	addr := a.Addr().Unmap()
	if addr.IsUnspecified() && w.capture.local.IsValid() {
		addr = w.capture.local
	}
	return netip.AddrPortFrom(addr, a.Port())
}
