package integration

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/integration/netns"
)

// managed is a manager in a test's own process, and what it needs to make
// gateways its own. It reaches them from inside.
type managed struct {
	*push.Manager
	s      *scenario
	issuer *ca.Issuer
	own    *tls.Certificate
	docs   *push.Documents
	// from is where a gateway's address is dialled.
	from map[netip.Addr]*netns.Namespace

	mu      sync.Mutex
	number  uint64
	events  map[string][]gcm.Event
	cursors map[string]uint64
}

// managementPort of gateways in tests.
const managementPort = 8447

// newManager with a CA of its own, beside that of the devices.
func newManager(t *testing.T, s *scenario) *managed {
	t.Helper()
	m := &managed{s: s, issuer: catest.New(t, time.Now()).Issuer(), from: map[netip.Addr]*netns.Namespace{}, events: map[string][]gcm.Event{}, cursors: map[string]uint64{}}
	s.write("manager-root.crt", certPEM(m.issuer.Root()))
	var err error
	if m.docs, err = push.NewDocuments(); err != nil {
		t.Fatal(err)
	}
	m.own = catest.Certificate(t, m.issuer, ca.Request{Profile: ca.Manager, Name: "manager-1"})
	m.Manager = m.as(t, m.own)
	return m
}

// as a manager with a certificate.
func (m *managed) as(t *testing.T, own *tls.Certificate) *push.Manager {
	t.Helper()
	agent, _ := ca.PolicyOID(m.issuer.InstanceOID(), ca.Agent)
	manager, err := push.New(push.Config{
		Documents: m.docs, Journal: m, Known: func(string) bool { return true }, Dial: m.dial,
		Identity: push.Identity{Certificate: func() (*tls.Certificate, error) { return own, nil }, Roots: m.roots(), Agent: agent},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(manager.Close)
	return manager
}

func (m *managed) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(m.issuer.Root())
	return roots
}

// known is a gateway as the manager knows it.
func (m *managed) known(name string, inside netip.Addr) push.Gateway {
	return push.Gateway{Name: name, Host: name + ".example.org", Address: netip.AddrPortFrom(inside, managementPort)}
}

// ask a gateway something else by the same certificate.
func (m *managed) ask(t *testing.T, name string, inside netip.Addr, method, path, body string) (int, string) {
	t.Helper()
	return m.send(t, name, inside, method, path, "", body)
}

// send it with a content type.
func (m *managed) send(t *testing.T, name string, inside netip.Addr, method, path, kind, body string) (int, string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		DialContext: m.dial, Protocols: protocols,
		TLSClientConfig: &tls.Config{RootCAs: m.roots(), ServerName: m.known(name, inside).Host, Certificates: []tls.Certificate{*m.own}},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(m.s.ctx, method, "https://"+m.known(name, inside).Address.String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

func (m *managed) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	err = m.from[at.Addr()].Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// section of a gateway's configuration that lets this manager in, with a key
// that is made.
func (m *managed) section(t *testing.T, name string, inside netip.Addr, more string) string {
	t.Helper()
	m.s.write(name+".management.key", keyPEM(t, keyECDSA(t)))
	return fmt.Sprintf("{listen: %q, name: %s, host: %s.example.org, key: %s, roots: [%s], instance_oid: %s%s}",
		netip.AddrPortFrom(inside, managementPort), name, name, filepath.Join(m.s.dir, name+".management.key"),
		filepath.Join(m.s.dir, "manager-root.crt"), m.issuer.InstanceOID(), more)
}

// join a gateway: it is certified by its fingerprint, and dialled from then on.
func (m *managed) join(t *testing.T, name string, inside netip.Addr, from *netns.Namespace) push.Gateway {
	t.Helper()
	g := m.known(name, inside)
	m.from[inside] = from
	key := m.fingerprint(t, g)
	err := m.Certify(m.s.ctx, g, &key, func(_ context.Context, g push.Gateway, r *x509.CertificateRequest) ([]byte, error) {
		return catest.Chain(m.issuer, ca.Request{Profile: ca.Agent, DNSNames: []string{g.Host}, PublicKey: r.PublicKey})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Add(g); err != nil {
		t.Fatal(err)
	}
	return g
}

// fingerprint as an administrator would read it on the gateway.
func (m *managed) fingerprint(t *testing.T, g push.Gateway) (f push.Fingerprint) {
	t.Helper()
	content := m.s.read(t, g.Name+".management.key")
	block, _ := pem.Decode(content)
	if block == nil {
		t.Fatal("no key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return push.Fingerprint(spki(t, parsed.(crypto.Signer).Public()))
}

// Cursor, Reset and Keep are the journal, in memory.
func (m *managed) Cursor(_ context.Context, gateway string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursors[gateway], nil
}

// Reset a cursor.
func (m *managed) Reset(_ context.Context, gateway string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cursors[gateway] = 0
	return nil
}

// Keep events.
func (m *managed) Keep(_ context.Context, gateway string, events []gcm.Event, cursor uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events[gateway] = append(m.events[gateway], events...)
	m.cursors[gateway] = cursor
	return nil
}

// told is what a gateway said of a device, without times.
func (m *managed) told(gateway, device string) (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events[gateway] {
		if e.Device == device {
			list = append(list, string(e.Kind)+" "+e.Reason)
		}
	}
	return list
}

// commit a change, and wait until these gateways have it in force.
func (m *managed) commit(t *testing.T, section gcm.Section, put []gcm.Record, del [][]byte, gateways ...string) {
	t.Helper()
	m.number++
	v := gcm.Version{Epoch: 1, Number: m.number}
	if err := m.docs.Commit(section, v, put, del); err != nil {
		t.Fatal(err)
	}
	m.s.eventually(t, fmt.Sprintf("%s %v at %v", section, v, gateways), func() (bool, string) {
		ok, seen := true, ""
		for _, status := range m.Status() {
			at := status.Sections[section]
			seen += fmt.Sprintf("%s %v %t %v %v %s; ", status.Gateway.Name, at.Version, at.Applied, at.Reasons, at.Err, status.Err)
			if slices.Contains(gateways, status.Gateway.Name) && (at.Version != v || !at.Applied) {
				ok = false
			}
		}
		return ok, seen
	})
}
