package traffic

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Attempts of a host to speak to others first, in a capture: TCP connections
// that it opens, and UDP datagrams to who sent it none before from there.
func Attempts(pcap string, from netip.Addr) (list []string, err error) {
	file, err := os.Open(pcap)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, err := pcapgo.NewReader(file)
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	for {
		data, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
		if p.NetworkLayer() == nil || p.TransportLayer() == nil {
			continue
		}
		there, back := p.NetworkLayer().NetworkFlow(), p.TransportLayer().TransportFlow()
		flow := fmt.Sprint(there, " ", back)
		reverse := fmt.Sprint(there.Reverse(), " ", back.Reverse())
		if source, ok := netip.AddrFromSlice(there.Src().Raw()); !ok || source != from {
			asked[flow] = true
			continue
		}
		switch t := p.TransportLayer().(type) {
		case *layers.TCP:
			if t.SYN && !t.ACK {
				list = append(list, "TCP "+flow)
			}
		case *layers.UDP:
			if !asked[reverse] {
				list = append(list, "UDP "+flow)
			}
		}
	}
}
