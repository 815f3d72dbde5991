package integration

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

var (
	firstInside  = netip.MustParseAddr("10.2.0.1")
	secondInside = netip.MustParseAddr("10.2.0.9")
)

func (s *scenario) read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func spki(t *testing.T, key crypto.PublicKey) [sha256.Size]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(der)
}

// everyone is the access section of these tests, and their addresses.
func (m *managed) begin(t *testing.T, gateways ...string) {
	t.Helper()
	m.commit(t, gcm.Access, []gcm.Record{
		gcm.AccessGroup{Name: "quarantine", Rules: []string{fmt.Sprintf("allow 10.2.0.2 udp %d", openPort)}}.Record(),
		gcm.AccessGroup{Name: "staff", Rules: []string{"allow 10.2.0.0/24", "allow any icmp"}}.Record(),
	}, nil, gateways...)
	m.commit(t, gcm.Addresses, []gcm.Record{gcm.Pool{Prefix: pool}.Record()}, nil, gateways...)
	m.commit(t, gcm.Settings, []gcm.Record{gcm.Setting{Name: "static.networks", Value: `["10.2.0.0/24"]`}.Record()}, nil, gateways...)
	key := gcm.TicketKey{ID: [8]byte{1}, From: time.Now().Add(-time.Minute)}
	copy(key.Secret[:], "a secret of resumption tickets..")
	m.commit(t, gcm.Tickets, []gcm.Record{key.Record()}, nil, gateways...)
}

func authorised(device, group, address string) gcm.Record {
	return gcm.Authorisation{Device: device, Group: group, Addresses: []netip.Addr{netip.MustParseAddr(address)}}.Record()
}

// A gateway that a manager configures from inside: what is pushed holds, at once
// and over a crash, and the gateway opens no connection to anybody inside.
//
//	dev1 (strongSwan) --- gw (gatewayd, managed) --- lan (the manager's place)
//	dev2 (simulated) --/
func TestManaged(t *testing.T) {
	var m *managed
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks = nil, nil
		s.conf.Management = m.section(t, "gw1", firstInside, "")
	}})
	s.services(t)
	pcap := filepath.Join(s.dir, "inside.pcap")
	capture, err := traffic.StartCapture(s.top.Gateway, netns.InsideLink, pcap, 96)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Stop() })
	phone, tablet := s.root.device(t, "phone", keyECDSA(t)), s.root.device(t, "tablet", keyECDSA(t))

	t.Run("nobody gets in before anything was pushed", func(t *testing.T) { s.fails(t, s.ticketed(s.top.Devices[1], tablet, nil)) })
	t.Run("others than managers are refused", func(t *testing.T) { m.strangers(t) })
	m.join(t, "gw1", firstInside, s.top.LAN)
	m.begin(t, "gw1")
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "quarantine", "10.9.0.77"), authorised("tablet", "staff", "10.9.0.78")}, nil, "gw1")

	client := s.client(t, s.top.Devices[0], phone)
	if got := s.connect(t, client); got.String() != "10.9.0.77" {
		t.Errorf("phone has %v, was assigned 10.9.0.77", got)
	}
	from := netip.AddrPortFrom(netip.MustParseAddr("10.9.0.77"), 6000)
	t.Run("released from quarantine and put back, no packet lost", func(t *testing.T) {
		port := from.Port()
		reaches := func(step string, want bool) {
			t.Helper()
			patience := 10 * time.Second
			if !want {
				patience = 300 * time.Millisecond
			}
			port++
			another := udp(t, client.Namespace(), netip.AddrPortFrom(from.Addr(), port))
			if got := echo(t, another, closedPort, patience); got != want {
				t.Errorf("%s: it reaches what staff may: %t", step, got)
			}
		}
		stream := stream(t, udp(t, client.Namespace(), from), openPort)
		id := s.sessions(t)[0].ID
		reaches("in quarantine", false)
		for range 3 {
			m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "staff", "10.9.0.77")}, nil, "gw1")
			reaches("released", true)
			m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "quarantine", "10.9.0.77")}, nil, "gw1")
			reaches("put back", false)
		}
		sent, lost := stream()
		t.Logf("%d packets, %d lost", sent, lost)
		if sent < 100 || lost > 0 {
			t.Errorf("%d packets of %d lost", lost, sent)
		}
		if now := s.sessions(t)[0]; now.ID != id || now.Group != "quarantine" {
			t.Errorf("session %s of group %s, was %s", now.ID, now.Group, id)
		}
	})
	// A group that isn't there yet is quarantine, too, and becomes itself when it
	// comes.
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "field", "10.9.0.77")}, nil, "gw1")
	s.group(t, "phone", "quarantine")
	m.commit(t, gcm.Access, []gcm.Record{gcm.AccessGroup{Name: "field", Rules: []string{"allow any icmp"}}.Record()}, nil, "gw1")
	s.group(t, "phone", "field")
	s.ping(t, client, from.Addr())

	d, _ := s.simulate(t, s.ticketed(s.top.Devices[1], tablet, nil))
	ticket := s.ticket(t, d)
	// After a crash, without its manager, it goes on with what was pushed last.
	m.Close()
	s.gw.Kill()
	d.Vanish()
	client.Vanish()
	s.start()
	_, address, ticket := s.resume(t, s.top.Devices[1], tablet, ticket)
	if address.String() != "10.9.0.78" {
		t.Errorf("resumed with %v", address)
	}
	client = s.client(t, s.top.Devices[0], phone)
	if got := s.connect(t, client); got != from.Addr() {
		t.Errorf("phone has %v after the crash", got)
	}
	s.group(t, "phone", "field")
	t.Run("revoked: cut, and neither certificate nor ticket lets it in", func(t *testing.T) {
		// The manager comes back, too.
		m.Manager = m.as(t, m.own)
		if err := m.Add(m.known("gw1", firstInside)); err != nil {
			t.Fatal(err)
		}
		leaf := tablet.cert
		m.commit(t, gcm.Devices, []gcm.Record{gcm.Revocation{
			Issuer: spki(t, s.root.cert.PublicKey), Serial: string(leaf.SerialNumber.Bytes()), Reason: 1, At: time.Now(),
		}.Record()}, nil, "gw1")
		s.eventually(t, "the session's end", func() (bool, string) {
			list := s.sessions(t)
			return len(list) == 1 && list[0].Device == "phone", fmt.Sprint(list)
		})
		s.fails(t, s.ticketed(s.top.Devices[1], tablet, nil))
		s.fails(t, s.ticketed(s.top.Devices[1], tablet, ticket))
		m.commit(t, gcm.Devices, nil, [][]byte{gcm.DeviceKey("phone")}, "gw1")
		s.group(t, "phone", "quarantine") // whom nobody knows any more
	})
	want := []string{"lease_assigned ", "session_started ", "session_ended revoked", "device_refused revoked"}
	s.eventually(t, "events", func() (bool, string) {
		told := m.told("gw1", "tablet")
		return !slices.ContainsFunc(want[1:], func(e string) bool { return !slices.Contains(told, e) }), fmt.Sprint(told)
	})
	m.Close()
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	attempts, err := traffic.Attempts(pcap, firstInside)
	if err != nil {
		t.Fatal(err)
	}
	if len(attempts) > 0 {
		t.Errorf("the gateway spoke to the inside first: %v", attempts)
	}
}

// strangers are refused on the management port: no certificate, that of another
// role, of another installation.
func (m *managed) strangers(t *testing.T) {
	g := m.known("gw1", firstInside)
	m.from[firstInside] = m.s.top.LAN
	// The gateway has no certificate of the installation before it joined, so
	// only who would certify it gets to see it.
	fingerprint := m.fingerprint(t, g)
	for name, own := range map[string]*tls.Certificate{
		"another role":         catest.Certificate(t, m.issuer, ca.Request{Profile: ca.Peer, DNSNames: []string{"peer.example.org"}}),
		"another installation": catest.Certificate(t, catest.New(t, time.Now()).Issuer(), ca.Request{Profile: ca.Manager, Name: "manager-1"}),
	} {
		err := m.as(t, own).Certify(m.s.ctx, g, &fingerprint, func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) {
			t.Errorf("%s: it got as far as signing", name)
			return nil, os.ErrInvalid
		})
		if err == nil {
			t.Errorf("%s: it was let in", name)
		}
	}
}

// group of a device's session.
func (s *scenario) group(t *testing.T, device, want string) {
	t.Helper()
	s.eventually(t, device+" in "+want, func() (bool, string) {
		for _, session := range s.sessions(t) {
			if session.Device == device {
				return session.Group == want, session.Group
			}
		}
		return false, "no session"
	})
}

// stream of packets to an echo service; the returned function ends it and says
// how many left and didn't come back.
func stream(t *testing.T, conn *net.UDPConn, port uint16) func() (sent, lost int) {
	t.Helper()
	var sent atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			n := sent.Load()
			if _, err := conn.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, n), netip.AddrPortFrom(netns.LANHost, port)); err != nil {
				t.Error(err)
				return
			}
			sent.Add(1)
		}
	}()
	came := map[uint64]bool{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 64)
		for {
			n, _, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if n == 8 {
				came[binary.BigEndian.Uint64(buf)] = true
			}
		}
	}()
	return func() (int, int) {
		close(stop)
		<-stopped
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		<-read
		return int(sent.Load()), int(sent.Load()) - len(came)
	}
}

// Two gateways of one manager: a device has the same address at both, a drain
// sends it on, and alerts reach it where it is.
//
//	dev1 (strongSwan) --------------- gw (gatewayd, gw1) --- lan
//	dev2 (gatewayd, gw2, inside0) --/
func TestManagedGateways(t *testing.T) {
	var m *managed
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks = nil, nil
		s.conf.Management = m.section(t, "gw1", firstInside, ", unreachable: {after: 0s, then: refuse}")
		s.conf.Extra = "  tunnel: {address: 10.9.0.254}\n"
	}})
	there := s.top.Devices[1]
	for _, command := range [][]string{
		{"ip", "link", "add", "inside0", "type", "veth", "peer", "name", "inside1"},
		{"ip", "link", "set", "inside0", "up"}, {"ip", "link", "set", "inside1", "up"},
		{"ip", "address", "add", secondInside.String() + "/24", "dev", "inside0"},
	} {
		if _, err := there.Run(s.ctx, exec.Command(command[0], command[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	conf := s.conf
	conf.Management = m.section(t, "gw2", secondInside, "")
	second := s.secondGateway(t, there, "inside0", conf)
	m.join(t, "gw1", firstInside, s.top.LAN)
	m.join(t, "gw2", secondInside, there.Namespace)
	m.begin(t, "gw1", "gw2")
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "staff", "10.9.0.77")}, nil, "gw1", "gw2")

	phone := s.root.device(t, "phone", keyECDSA(t))
	dev := s.top.Devices[0]
	for name, cfg := range map[string]func() string{
		"the first": func() string { d, a := s.simulate(t, s.ticketed(dev, phone, nil)); d.Vanish(); return a.String() },
		"the second": func() string {
			d, a := s.simulate(t, dialing(s.ticketed(dev, phone, nil), there))
			d.Vanish()
			return a.String()
		},
	} {
		if got := cfg(); got != "10.9.0.77" {
			t.Errorf("%s at %s gateway", got, name)
		}
	}
	s.endedAt(t, m, second)
	s.woken(t, m, phone)
	s.sentOn(t, m, phone, there)
	out, err := s.gw.Command(s.ctx, "status")
	if err != nil || !strings.Contains(out, "gw1") || !strings.Contains(out, "devices") {
		t.Errorf("status: %v\n%s", err, out)
	}
}

// endedAt: a session at the second gateway is ended by its ID, as when the device
// came to another gateway since.
func (s *scenario) endedAt(t *testing.T, m *managed, second *gateway.Gateway) {
	t.Helper()
	sessions := func() []gateway.Session {
		list, err := second.Sessions(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	list := sessions()
	if len(list) != 1 {
		t.Fatalf("%d sessions at the second gateway", len(list))
	}
	for id, want := range map[string]int{"00000000000000ff": 404, list[0].ID: 204} {
		if got, body := m.ask(t, "gw2", secondInside, "DELETE", gcm.PathSessions+"phone?session="+id, ""); got != want {
			t.Errorf("ending %s: %d %s, want %d", id, got, body, want)
		}
	}
	s.eventually(t, "the session's end", func() (bool, string) { l := sessions(); return len(l) == 0, fmt.Sprint(l) })
}

// woken: octets come out of the tunnel at the device, from the gateway's
// address, and their result comes back.
func (s *scenario) woken(t *testing.T, m *managed, id identity) {
	t.Helper()
	client := s.client(t, s.top.Devices[0], id, func(c *peer.Connection) {
		c.Remote = append(c.Remote, netip.MustParsePrefix("10.9.0.254/32"))
	})
	address := s.connect(t, client)
	conn := udp(t, client.Namespace(), netip.AddrPortFrom(address, 2948))
	if got, body := m.ask(t, "gw1", firstInside, "POST", gcm.PathAlerts+"phone?alert=a1", "wake up"); got != 202 {
		t.Fatalf("%d %s", got, body)
	}
	if got, _ := m.ask(t, "gw1", firstInside, "POST", gcm.PathAlerts+"laptop?alert=a2", "wake up"); got != 404 {
		t.Errorf("an alert for who isn't here: %d", got)
	}
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "wake up" || from.String() != "10.9.0.254:2948" {
		t.Fatalf("%q from %v, %v", buf[:n], from, err)
	}
	s.ping(t, client, address)
	s.eventually(t, "the alert's result", func() (bool, string) {
		told := m.told("gw1", "phone")
		return slices.Contains(told, "alert_result heard"), fmt.Sprint(told)
	})
	client.Vanish()
}

// sentOn: devices are sent to the other gateway, until that is taken back.
func (s *scenario) sentOn(t *testing.T, m *managed, id identity, there netns.Device) {
	t.Helper()
	order := fmt.Sprintf(`{"on":true,"to":%q,"within":1}`, there.Address)
	if got, body := m.ask(t, "gw1", firstInside, "POST", gcm.PathDrain, order); got != 204 {
		t.Fatalf("%d %s", got, body)
	}
	s.eventually(t, "an empty gateway", func() (bool, string) { l := s.sessions(t); return len(l) == 0, fmt.Sprint(l) })
	dev := s.top.Devices[0]
	s.fails(t, s.ticketed(dev, id, nil))
	d, address := s.simulate(t, dialing(s.ticketed(dev, id, nil), there))
	if address.String() != "10.9.0.77" {
		t.Errorf("%v at the second gateway", address)
	}
	d.Vanish()
	if _, body := m.ask(t, "gw1", firstInside, "GET", gcm.PathState, ""); !strings.Contains(body, `"health":"draining"`) {
		t.Errorf("state: %s", body)
	}
	if got, body := m.ask(t, "gw1", firstInside, "POST", gcm.PathDrain, `{"on":false}`); got != 204 {
		t.Fatalf("%d %s", got, body)
	}
	d, _ = s.simulate(t, s.ticketed(dev, id, nil))
	d.Vanish()
}
