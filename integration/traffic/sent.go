package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Sent lists the IP packets of a capture that come from one of the addresses: each
// with its layers, its flow and, of UDP and ESP, where it goes. What a kernel tells
// its neighbours (ARP, RFC 4861, groups) isn't among them.
func Sent(path string, from ...netip.Addr) (packets []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r, err := pcapgo.NewReader(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for {
		frame, info, err := r.ReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return packets, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p := gopacket.NewPacket(frame, r.LinkType(), gopacket.NoCopy)
		if ip := p.NetworkLayer(); ip != nil && !neighbourly(p) {
			source, _ := netip.AddrFromSlice(ip.NetworkFlow().Src().Raw())
			if slices.Contains(from, source) {
				packets = append(packets, fmt.Sprintf("%s %s, %d octets", info.Timestamp.Format("15:04:05.000"), named(p), info.Length))
			}
		}
	}
}

// named is like "Ethernet IPv4 10.1.0.1->10.1.0.2 UDP 4500->4500".
func named(p gopacket.Packet) string {
	var parts []string
	for _, l := range p.Layers() {
		parts = append(parts, l.LayerType().String())
		switch l := l.(type) {
		case gopacket.NetworkLayer:
			parts = append(parts, l.NetworkFlow().String())
		case gopacket.TransportLayer:
			parts = append(parts, l.TransportFlow().String())
		case *layers.IPSecESP:
			parts = append(parts, fmt.Sprintf("SPI %08x sequence number %d", l.SPI, l.Seq))
		}
	}
	return strings.Join(parts, " ")
}

// neighbourly: of neighbour discovery (RFC 4861), or of membership in groups.
func neighbourly(p gopacket.Packet) bool {
	if p.Layer(layers.LayerTypeIGMP) != nil {
		return true
	}
	icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ok {
		return false
	}
	switch t := icmp.TypeCode.Type(); {
	case t >= layers.ICMPv6TypeRouterSolicitation && t <= layers.ICMPv6TypeRedirect,
		t >= 130 && t <= 132, t == 143: // Multicast Listener Discovery (RFC 3810)
		return true
	}
	return false
}
