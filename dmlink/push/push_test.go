package push_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// TestRandomCommits: over cut connections, and with gateways that come late, all
// have in the end what was committed last, in the same version.
func TestRandomCommits(t *testing.T) {
	i, d, n := install(t), documents(t), new(network)
	c := i.config(t, d, newJournal())
	c.Dial = n.Dial
	gateways := []*gateway{i.gateway(t, "gateway-1", nil, false), i.gateway(t, "gateway-2", nil, false), i.gateway(t, "gateway-3", nil, false)}
	m := manage(t, c, gateways[0].Gateway, gateways[1].Gateway)
	for _, g := range gateways[:2] {
		eventually(t, g.Name+" is connected", func() bool { return statusOf(m, g.Name).Connected })
	}
	r := rand.New(rand.NewPCG(1, 2))
	const rounds = 400
	for number := range uint64(rounds) {
		v := gcm.Version{Epoch: 1, Number: number + 1}
		var put []gcm.Record
		var del [][]byte
		section := gcm.Devices
		switch r.IntN(8) {
		case 0:
			section = gcm.Access
			put = append(put, gcm.AccessGroup{Name: fmt.Sprintf("group-%d", r.IntN(5)), DeviceRate: r.Uint64()}.Record())
		case 1:
			section = gcm.Settings
			put = append(put, gcm.Setting{Name: "redirect.to", Value: fmt.Sprint(number)}.Record())
		default:
			for k := range 30 {
				switch r.IntN(6) {
				case 0:
					put = append(put, device(k, fmt.Sprintf("group-%d", number)))
				case 1:
					del = append(del, gcm.DeviceKey(fmt.Sprintf("device-%d", k)))
				}
			}
		}
		if err := d.Commit(section, v, put, del); err != nil {
			t.Fatal(err)
		}
		switch number {
		case rounds / 4, rounds / 2:
			n.cut()
		case 3 * rounds / 4:
			if err := m.Add(gateways[2].Gateway); err != nil {
				t.Fatal(err)
			}
		}
		if number%10 == 0 {
			eventually(t, "one gateway follows", func() bool { return statusOf(m, "gateway-1").Err != "" || gateways[0].same(d) })
		}
	}
	for _, g := range gateways {
		eventually(t, g.Name+" has what was committed", func() bool { return g.same(d) })
		eventually(t, "the manager knows", func() bool {
			s := statusOf(m, g.Name)
			for _, section := range gcm.Sections {
				if v, _, _ := d.Version(section); s.Sections[section].Version != v || s.Sections[section].Err != nil {
					return false
				}
			}
			return s.Connected && s.State.Software == "test"
		})
	}
	if n.dialled() < 5 {
		t.Errorf("%d connections: they were never cut", n.dialled())
	}
}

// TestRefusedSectionHoldsBackNoOther, and is taken when it was mended.
func TestRefusedSectionHoldsBackNoOther(t *testing.T) {
	i, d := install(t), documents(t)
	g := i.gateway(t, "gateway-1", nil, false)
	g.set(func(s *gcm.Set) []error {
		if _, bad := s.Get([]byte("bad")); bad {
			return []error{errors.New("one reason"), errors.New("another reason")}
		}
		return nil
	})
	m := manage(t, i.config(t, d, newJournal()), g.Gateway)
	commit(t, d, gcm.Access, gcm.Version{Epoch: 1, Number: 1}, gcm.AccessGroup{Name: "bad"}.Record())
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 2}, device(1, "staff"))
	eventually(t, "the manager hears every reason", func() bool {
		err := statusOf(m, g.Name).Sections[gcm.Access].Err
		return errors.Is(err, gcm.ErrRefused) && strings.Contains(err.Error(), "one reason; another reason")
	})
	eventually(t, "devices are taken", func() bool { return g.State().Sections[gcm.Devices].Version.Number == 2 })
	// What was refused is still on the way to what is mended.
	good := []gcm.Record{gcm.AccessGroup{Name: "good"}.Record()}
	if err := d.Commit(gcm.Access, gcm.Version{Epoch: 1, Number: 3}, good, [][]byte{[]byte("bad")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mended one is taken", func() bool { return g.same(d) })
}

// TestPausedManager: one that slept while another worked changes nothing when it
// goes on, and says so; one that was restored needs a new epoch.
func TestPausedManager(t *testing.T) {
	i, current, old := install(t), documents(t), documents(t)
	g := i.gateway(t, "gateway-1", nil, false)
	for n := range uint64(3) {
		commit(t, current, gcm.Devices, gcm.Version{Epoch: 1, Number: n + 1}, device(int(n), "staff"))
	}
	commit(t, old, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(0, "staff"))
	manage(t, i.config(t, current, newJournal()), g.Gateway)
	eventually(t, "the gateway is up to date", func() bool { return g.same(current) })
	m := manage(t, i.config(t, old, newJournal()), g.Gateway)
	ahead := func() bool { return errors.Is(statusOf(m, g.Name).Sections[gcm.Devices].Err, push.ErrAhead) }
	eventually(t, "the old one notices", ahead)
	commit(t, old, gcm.Devices, gcm.Version{Epoch: 1, Number: 2}, device(9, "intruders"))
	eventually(t, "and again", ahead)
	if !g.same(current) {
		t.Error("a paused manager changed a gateway")
	}
	commit(t, old, gcm.Devices, gcm.Version{Epoch: 1, Number: 3}, device(8, "intruders"))
	eventually(t, "the same number, another content", func() bool {
		return errors.Is(statusOf(m, g.Name).Sections[gcm.Devices].Err, push.ErrDiverged)
	})
	if !g.same(current) {
		t.Error("a restored manager changed a gateway")
	}
	commit(t, old, gcm.Devices, gcm.Version{Epoch: 2, Number: 1})
	eventually(t, "a new epoch is taken", func() bool { return g.same(old) })
}

// TestForgottenVersions: somebody else pushed so far ahead that nothing goes on;
// then the gateway forgets its versions, and over the connection that is there
// gets what was committed.
func TestForgottenVersions(t *testing.T) {
	i, d := install(t), documents(t)
	g := i.gateway(t, "gateway-1", nil, false)
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1, "staff"))
	m := manage(t, i.config(t, d, newJournal()), g.Gateway)
	eventually(t, "it is up to date", func() bool { return g.same(d) && statusOf(m, g.Name).Connected })
	since := statusOf(m, g.Name).Since
	stolen, err := gcm.NewSet(gcm.Devices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stolen.Commit(gcm.Version{Epoch: 99, Number: 1}, []gcm.Record{device(66, "intruders")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Replace(stolen); err != nil {
		t.Fatal(err)
	}
	poke := func() {
		t.Helper()
		if err := m.Poke(g.Name); err != nil {
			t.Fatal(err)
		}
	}
	poke()
	eventually(t, "the manager notices", func() bool { return errors.Is(statusOf(m, g.Name).Sections[gcm.Devices].Err, push.ErrAhead) })
	if err := g.ForgetVersions(); err != nil {
		t.Fatal(err)
	}
	poke()
	eventually(t, "it has what was committed", func() bool { return g.same(d) && statusOf(m, g.Name).Sections[gcm.Devices].Err == nil })
	if s := statusOf(m, g.Name); !s.Connected || s.Since != since {
		t.Errorf("for that it connected again: %+v", s)
	}
}

// TestWhoIsNoGateway: another instance's agent, another gateway's, and a server
// of the installation that is none.
func TestWhoIsNoGateway(t *testing.T) {
	i, other, d := install(t), install(t), documents(t)
	commit(t, d, gcm.Tickets, gcm.Version{Epoch: 1, Number: 1}, gcm.TicketKey{ID: [8]byte{1}, Secret: [32]byte{2}, From: time.Now()}.Record())
	foreign := other.gateway(t, "gateway-1", nil, false)
	second := i.gateway(t, "gateway-2", nil, false)
	renamed := second.Gateway
	renamed.Name = "gateway-3"
	elsewhere := second.Gateway
	elsewhere.Name, elsewhere.Host = "gateway-4", "gateway-4.example.org"
	server := newLiar(t, i.certificate(t, ca.Request{Profile: ca.Server, DNSNames: []string{"gateway-5.example.org"}}), "gateway-5")
	m := manage(t, i.config(t, d, newJournal()), foreign.Gateway, renamed, elsewhere, server.gateway())
	for name, want := range map[string]string{"gateway-1": "certificate", "gateway-3": "it says that it is", "gateway-4": "certificate", "gateway-5": "policies"} {
		eventually(t, name+" isn't talked to", func() bool {
			s := statusOf(m, name)
			return !s.Connected && strings.Contains(s.Err, want)
		})
	}
	for _, g := range []*gateway{foreign, second} {
		if v := g.State().Sections[gcm.Tickets].Version; v != (gcm.Version{}) {
			t.Errorf("%s was told the ticket keys", g.Name)
		}
	}
	revoked := i.gateway(t, "gateway-6", nil, false)
	conn, err := tls.Dial("tcp", revoked.Address.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*i.certificate(t, ca.Request{Profile: ca.Manager, Name: "manager-2"})}})
	if err != nil {
		t.Fatal(err)
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	conn.Close()
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, gcm.Revocation{
		Issuer: sha256.Sum256(i.issuer.Certificate().RawSubjectPublicKeyInfo), Serial: string(leaf.SerialNumber.Bytes()), At: time.Now(),
	}.Record())
	if err := m.Add(revoked.Gateway); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a revoked gateway isn't talked to", func() bool { return strings.Contains(statusOf(m, "gateway-6").Err, "is revoked") })
	if server.asked.Load() != 0 {
		t.Error("a server that is no gateway was asked")
	}
}

// TestEventsOverReconnects: each comes once and in its order, whatever happens
// to the connections, and to the journal.
func TestEventsOverReconnects(t *testing.T) {
	i, d, n, j := install(t), documents(t), new(network), newJournal()
	g := i.gateway(t, "gateway-1", nil, false)
	c := i.config(t, d, j)
	c.Dial = n.Dial
	c.Known = func(device string) bool { return device != "stranger" }
	m := manage(t, c, g.Gateway)
	const all = 600
	for k := range uint64(all) {
		g.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "phone-1", Count: k + 1})
		if k == all/2 {
			eventually(t, "some are kept", func() bool { return len(j.of(g.Name)) > 0 })
			n.cut()
			j.mu.Lock()
			j.fail = errors.New("the database is away")
			j.mu.Unlock()
		}
	}
	g.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: "stranger"})
	eventually(t, "the connection is given up", func() bool { return strings.Contains(statusOf(m, g.Name).Err, "database is away") })
	j.mu.Lock()
	j.fail = nil
	j.mu.Unlock()
	eventually(t, "all are there", func() bool {
		cursor, _ := j.Cursor(t.Context(), g.Name)
		return cursor == all+1
	})
	events := j.of(g.Name)
	for k, e := range events {
		if e.Count != uint64(k)+1 || e.Cursor != uint64(k)+1 {
			t.Fatalf("event %d is %+v", k, e)
		}
	}
	if len(events) != all {
		t.Errorf("%d events, want %d", len(events), all)
	}
	eventually(t, "a stranger isn't believed", func() bool { return statusOf(m, g.Name).Disbelieved == 1 })

	// Somebody took the gateway's file away: it begins again at 1.
	j.mu.Lock()
	j.cursors[g.Name] = 1 << 50
	j.mu.Unlock()
	n.cut()
	eventually(t, "it is read from the beginning", func() bool { return len(j.of(g.Name)) == 2*all })
}

// TestJoin: a gateway without a certificate is known by its fingerprint; what it
// asks for is signed if it is its own name, and the connection that is there
// goes on while the certificate is renewed.
func TestJoin(t *testing.T) {
	i, d, n := install(t), documents(t), new(network)
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1, "staff"))
	g := i.gateway(t, "gateway-1", nil, true)
	c := i.config(t, d, newJournal())
	c.Dial = n.Dial
	m := manage(t, c)
	fingerprint, err := g.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	known, wrong := push.Fingerprint(fingerprint), push.Fingerprint(sha256.Sum256(nil))
	never := func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) {
		t.Error("something was signed")
		return nil, errors.New("never")
	}
	if err := m.Certify(t.Context(), g.Gateway, &wrong, never); !errors.Is(err, push.ErrGateway) {
		t.Errorf("with another fingerprint: %v, want %v", err, push.ErrGateway)
	}
	if err := m.Certify(t.Context(), g.Gateway, nil, never); err == nil {
		t.Error("without a fingerprint it is known")
	}
	another := g.Gateway
	another.Host = "gateway-2.example.org"
	if err := m.Certify(t.Context(), another, &known, never); !errors.Is(err, push.ErrGateway) {
		t.Errorf("for another name: %v, want %v", err, push.ErrGateway)
	}
	if err := m.Certify(t.Context(), g.Gateway, &known, i.signAgent); err != nil {
		t.Fatal(err)
	}
	if err := m.Add(g.Gateway); err != nil {
		t.Fatal(err)
	}
	if err := m.Add(g.Gateway); !errors.Is(err, push.ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	eventually(t, "it is configured", func() bool { return g.same(d) && statusOf(m, g.Name).Connected })
	before := statusOf(m, g.Name).Since
	if err := m.Certify(t.Context(), g.Gateway, nil, i.signAgent); err != nil {
		t.Errorf("renewal: %v", err)
	}
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 2}, device(2, "staff"))
	eventually(t, "it is configured", func() bool { return g.same(d) })
	if s := statusOf(m, g.Name); !s.Connected || s.Since != before {
		t.Errorf("the connection was dropped: %+v", s)
	}
	if err := m.Remove(g.Name); err != nil {
		t.Error(err)
	}
	if err := m.Remove(g.Name); !errors.Is(err, push.ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
	m.Close()
	if err := m.Add(g.Gateway); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestRevokedMeanwhile: a connection that is there ends when the gateway's
// certificate is revoked, and there is no other.
func TestRevokedMeanwhile(t *testing.T) {
	i, d := install(t), documents(t)
	g := i.gateway(t, "gateway-1", nil, false)
	m := manage(t, i.config(t, d, newJournal()), g.Gateway)
	eventually(t, "it is connected", func() bool { return statusOf(m, g.Name).Connected })
	c, err := g.TLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	commit(t, d, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, gcm.Revocation{
		Issuer: sha256.Sum256(i.issuer.Chain()[0].RawSubjectPublicKeyInfo), Serial: string(leaf.SerialNumber.Bytes()), Reason: 1, At: time.Now(),
	}.Record())
	eventually(t, "it is cut off", func() bool { s := statusOf(m, g.Name); return !s.Connected && strings.Contains(s.Err, "revoked") })
}
