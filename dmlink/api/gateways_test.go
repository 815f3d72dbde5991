package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// gates are a fleet of one gateway, with a real agent on loopback.
type gates struct {
	*fleet.Fleet
	address     net.Addr
	fingerprint push.Fingerprint
	added       atomic.Int64
}

// ended is an agent.Host that has no sessions.
type ended struct{}

func (ended) Tell(*gcm.State)                         {}
func (ended) Sessions(string, func(gcm.Session) bool) {}
func (ended) End(string, string) bool                 { return false }
func (ended) Alert(string, string, []byte) error      { return agent.ErrNoSession }
func (ended) Drain(gcm.Drain) error                   { return nil }
func (ended) Reload() (gcm.Reloaded, bool)            { return gcm.Reloaded{}, true }

// entries of enrollment: two devices.
type entries []fleet.Entry

func (e entries) Entries(_ context.Context, after int64, _ int) ([]fleet.Entry, error) {
	return e[min(int(after), len(e)):], nil
}

// gateways of the world, which are the same for all instances.
func (w *world) gateways() *gates {
	w.t.Helper()
	if w.fleet != nil {
		return w.fleet
	}
	issuer := catest.New(w.t, time.Now()).Issuer()
	roots, agents := catest.Roots(issuer), catest.Policy(w.t, issuer, ca.Agent)
	own := catest.Certificate(w.t, issuer, ca.Request{Profile: ca.Manager, Name: "manager-1"})
	g, err := agent.New(agent.Config{
		Gateway: "gateway-1", Software: "test", File: filepath.Join(w.t.TempDir(), "agent"), Host: ended{},
		Identity: agent.Identity{Key: catest.NewKey(w.t), Host: "gateway-1.example.org", Roots: roots,
			Manager: catest.Policy(w.t, issuer, ca.Manager), Agent: agents},
		Check: func(*gcm.Set) []error { return nil }, Apply: func(agent.Change) []error { return nil },
	})
	w.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	f, err := fleet.New(w.t.Context(), w.db, fleet.Options{
		Identity: push.Identity{Certificate: func() (*tls.Certificate, error) { return own, nil }, Roots: roots, Agent: agents},
		Sign: func(_ context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
			return catest.Chain(issuer, ca.Request{Profile: ca.Agent, DNSNames: []string{g.Host}, PublicKey: request.PublicKey})
		},
		SealKey: make([]byte, 32), Feed: entries{{Number: 1, At: time.Now(), Kind: fleet.Enrolled, Device: "phone-1", Groups: []string{"sales"}}},
	})
	w.must(err)
	fingerprint, err := g.Fingerprint()
	w.must(err)
	w.fleet = &gates{Fleet: f, address: l.Addr(), fingerprint: fingerprint}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- g.Serve(ctx, l) }()
	go func() { f.Run(ctx); done <- nil }()
	w.t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		}
		w.must(g.Close())
	})
	w.must(f.Follow(w.t.Context()))
	w.must(f.AddGateway(w.t.Context(), push.Gateway{Name: "gateway-1", Host: "gateway-1.example.org", Address: l.Addr().(*net.TCPAddr).AddrPort()}, fingerprint))
	return w.fleet
}

func (g *gates) newGateway(name string) *AddGateway {
	return &AddGateway{NewGateway{Name: name, Address: g.address.String(), Host: "gateway-1.example.org", Fingerprint: hex.EncodeToString(g.fingerprint[:])}}
}

// fleetSamples are requests that work.
func fleetSamples(i *instance, m map[string]func(works bool) (method, path string, content []byte)) {
	i.t.Helper()
	one, phone := &OneGateway{"gateway-1"}, OneDevice{"phone-1"}
	sample(i, m, GatewayList, &None{})
	sample(i, m, GatewayShow, one)
	change := &ChangeGateway{*one}
	sample(i, m, GatewayPush, change)
	drain := &DrainGateway{OneGateway: *one}
	drain.Body.To = "gateway-2.example.org"
	sample(i, m, GatewayDrain, drain)
	sample(i, m, GatewayUndrain, change)
	sample(i, m, GatewayEpoch, &NewEpoch{})
	sample(i, m, GatewaySessions, &ListSessions{})
	sample(i, m, GatewayEvents, &ListEvents{})
	sample(i, m, GatewayExport, &None{})
	sample(i, m, GatewayImport, &SetContent{GatewayContent{"pools: [{prefix: 10.64.0.0/24}]"}})
	sample(i, m, DeviceWhere, &phone)
	sample(i, m, DeviceDisconnect, &EndSessions{phone})
	sample(i, m, DeviceAccess, &phone)
	held := true
	hold := &SetAccess{OneDevice: phone}
	hold.Body.Held = &held
	sample(i, m, DeviceAuthorise, hold)
	// One is added by who may, and taken away by who may.
	next := func() *AddGateway { return i.fleet.newGateway(fmt.Sprint("added-", i.fleet.added.Add(1))) }
	m[GatewayAdd.ID] = func(bool) (string, string, []byte) {
		method, path, content, err := GatewayAdd.Request(next())
		i.must(err)
		return method, path, content
	}
	m[GatewayRemove.ID] = func(works bool) (string, string, []byte) {
		if !works {
			method, path, content, err := GatewayRemove.Request(change)
			i.must(err)
			return method, path, content
		}
		add := next()
		address := i.fleet.address.(*net.TCPAddr).AddrPort()
		i.must(i.fleet.AddGateway(i.t.Context(), push.Gateway{Name: add.Body.Name, Host: add.Body.Host, Address: address}, i.fleet.fingerprint))
		method, path, content, err := GatewayRemove.Request(&ChangeGateway{OneGateway{add.Body.Name}})
		i.must(err)
		return method, path, content
	}
}

// TestGateways: what administrators see and do, and what is answered to what can't
// be.
func TestGateways(t *testing.T) {
	w := newWorld(t, databasetest.SQLite)
	i := w.instance("home")
	id := identity{token: i.token("all", access.Server, access.Device, access.Security)}
	c := i.client(id)
	ask := func(method, path string, content []byte, err error) answer {
		t.Helper()
		w.must(err)
		return i.do(c, id, method, path, content)
	}
	wrong := i.fleet.newGateway("gateway-2")
	wrong.Body.Fingerprint = strings.Repeat("0", 64)
	bad := i.fleet.newGateway("gateway-2")
	bad.Body.Fingerprint = "xyz"
	for n, v := range []struct {
		in   *AddGateway
		want int
	}{{wrong, http.StatusBadGateway}, {bad, http.StatusUnprocessableEntity}, {i.fleet.newGateway("gateway-1"), http.StatusConflict}, {i.fleet.newGateway("No"), http.StatusUnprocessableEntity}} {
		if a := ask(GatewayAdd.Request(v.in)); a.status != v.want {
			t.Errorf("gateway %d: %v, want %d", n, a, v.want)
		}
	}
	if a := ask(GatewayShow.Request(&OneGateway{"none"})); a.status != http.StatusNotFound {
		t.Errorf("no gateway: %v", a)
	}
	if a := ask(GatewayImport.Request(&SetContent{GatewayContent{"pools: [{prefix: 10.0.0.1/8}]"}})); a.status != http.StatusUnprocessableEntity {
		t.Errorf("no network: %v", a)
	}
	if a := ask(GatewayImport.Request(&SetContent{GatewayContent{"pools:\n- prefix: 10.64.0.0/24\n"}})); a.status != http.StatusOK {
		t.Errorf("import: %v", a)
	}
	if a := ask(GatewayExport.Request(&None{})); !strings.Contains(string(a.octets), "10.64.0.0/24") {
		t.Errorf("export: %v", a)
	}
	group := "staff"
	set := &SetAccess{OneDevice: OneDevice{"phone-1"}}
	set.Body.Group = &group
	if a := ask(DeviceAuthorise.Request(set)); !strings.Contains(string(a.octets), `"group":"staff"`) || !strings.Contains(string(a.octets), "10.64.0.1") {
		t.Errorf("authorised: %v", a)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		a := ask(GatewayShow.Request(&OneGateway{"gateway-1"}))
		if strings.Contains(string(a.octets), `"current":true`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it never has what was committed: %v", a)
		}
	}
}
