package integration

import (
	"context"
	"crypto/sha1"
	"crypto/x509"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/integration/netns"
)

// The simulated device stands beside strongSwan where a scenario has to lay
// hands on the packets of a client.

// listenUDP opens a socket inside a namespace.
func listenUDP(ns *netns.Namespace, at netip.Addr) (*net.UDPConn, error) {
	conn, err := ns.ListenPacket("udp4", at)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// simulatedConfig of a device of the gateway's root, at an address of a
// namespace; it speaks as a Windows client with a VPN profile does.
func (s *scenario) simulatedConfig(dev netns.Device, id identity) device.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.root.cert)
	chain := [][]byte{id.cert.Raw}
	for _, c := range id.chain {
		chain = append(chain, c.Raw)
	}
	return device.Config{
		Listen:      func() (device.Socket, error) { return listenUDP(dev.Namespace, dev.Address) },
		Gateway:     netip.AddrPortFrom(netns.GatewayOutside, 500),
		GatewayNATT: netip.AddrPortFrom(netns.GatewayOutside, 4500),
		ID:          &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(id.cert.Subject.CommonName)},
		Credential:  ike.Credential{Chain: chain, Signer: id.key},
		GatewayID:   &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(gatewayID)},
		Verify:      device.VerifyGateway(roots, gatewayID),
		// What a CERTREQ names (RFC 7296 section 3.7).
		TrustAnchors: [][20]byte{sha1.Sum(s.root.cert.RawSubjectPublicKeyInfo)},
		Profile:      device.Windows10Profile,
	}
}

// simulate connects a simulated device and returns its virtual IP; it vanishes
// with the test.
func (s *scenario) simulate(t *testing.T, cfg device.Config) (*device.Device, netip.Addr) {
	t.Helper()
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Vanish)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	info, err := d.Connect(ctx)
	if err != nil {
		t.Fatalf("the simulated device: %v\ngatewayd:\n%s", err, s.gw.LogTail(30))
	}
	if len(info.Summary.VirtualIPs) == 0 {
		t.Fatal("the simulated device got no address")
	}
	return d, info.Summary.VirtualIPs[0]
}

// pingsThrough fails unless an echo through the tunnel of a simulated device
// comes back; a single one may get lost.
func (s *scenario) pingsThrough(t *testing.T, d *device.Device) {
	t.Helper()
	var err error
	for range 5 {
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		_, err = d.Ping(ctx, netns.LANHost, make([]byte, 56))
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("no echo through the tunnel: %v", err)
}

// metric is the value of one without labels, or with those that name bears,
// `x_total{reason="y"}`; "gatewayd_" may be left out.
func (s *scenario) metric(t *testing.T, name string) float64 {
	t.Helper()
	text, err := s.gw.Metrics(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && (key == name || key == "gatewayd_"+name) {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("metric %s: %v", key, err)
			}
			return number
		}
	}
	// With labels, those with a count are told only.
	if !strings.Contains(name, "{") {
		t.Fatalf("no metric %s", name)
	}
	return 0
}
