// Package jointest is an enrollment server for tests: a CA, the real service
// over SQLite, and the own protocol on loopback with TLS.
package jointest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/discovery"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Admin who makes requests.
var Admin = directory.By{Name: "alice"}

// Instance is one installation.
type Instance struct {
	*enroll.Service
	CA *ca.CA
	// Name under which it is published; Address on loopback is where it is.
	Name, Address string
	// Wrap stands between TLS and the handler, for what tests want to see or
	// change there; set before the first connection.
	Wrap func(http.Handler) http.Handler
	// Finder of its handler; the instance alone unless replaced.
	Finder join.Finder

	t     testing.TB
	mu    sync.Mutex
	now   time.Time
	names int
}

// Options of New.
type Options struct {
	// Name of the instance; "enroll.example" if empty.
	Name          string
	Policy        enroll.Policy
	Configuration *enroll.Configuration
	// Directory is SQLite in a file unless given.
	Directory *directory.SQL
	// Seen and changed before the handler sees it; may be nil.
	Wrap func(http.Handler) http.Handler
}

// defaultConfiguration is what devices are told if a test says nothing else.
func defaultConfiguration() enroll.Configuration {
	return enroll.Configuration{
		Title:    "Example",
		Gateways: []enroll.Gateway{{Address: "192.0.2.1", Identity: "vpn.example"}},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
		IKE:      []string{"aes128gcm16-prfsha256-ecp256"}, ESP: []string{"aes128gcm16-ecp256"},
	}
}

// New instance that serves until the test ends. Its clock is the system's,
// unless Turn moves it.
func New(t testing.TB, o Options) *Instance {
	t.Helper()
	if o.Name == "" {
		o.Name = "enroll.example"
	}
	a, err := ca.Create(time.Now(), ca.Options{Dir: filepath.Join(t.TempDir(), "pki"), Name: o.Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	i := &Instance{CA: a, Name: o.Name, Wrap: o.Wrap, t: t}
	configuration := defaultConfiguration()
	if o.Configuration != nil {
		configuration = *o.Configuration
	}
	if o.Directory == nil {
		o.Directory = directorytest.SQLite(t)
	}
	i.Service, err = enroll.New(t.Context(), enroll.Options{
		Directory: o.Directory, Issuer: a.Issuer(), SealKey: bytes.Repeat([]byte{7}, enroll.SealKeySize),
		Policy: o.Policy, Configuration: configuration, Now: i.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	i.Finder = discovery.Local{Name: i.Name, Prover: i.Service}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { defer close(ran); i.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	i.serve()
	return i
}

func (i *Instance) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now.IsZero() {
		return time.Now()
	}
	return i.now
}

// Turn the service's clock forward; it stands from then on.
func (i *Instance) Turn(d time.Duration) {
	now := i.clock()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = now.Add(d)
}

// Find for the handler, by what Finder is at the moment.
func (i *Instance) Find(ctx context.Context, q *join.Inquiry, source netip.Addr) ([]join.Server, error) {
	return i.Finder.Find(ctx, q, source)
}

func (i *Instance) serve() {
	i.t.Helper()
	handler := join.New(join.Options{
		Enroller: i.Service, Finder: i,
		Trust:         func() join.Trust { return join.TrustOf(i.CA.Issuer(), "Instance "+i.Name, i.Name) },
		Configuration: func(enroll.Issued) ([]byte, error) { return json.Marshal(i.Configuration()) },
	})
	if i.Wrap != nil {
		handler = i.Wrap(handler)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{i.Certificate(ca.Server, "localhost")}}
	server.StartTLS()
	i.t.Cleanup(server.Close)
	i.Address = server.Listener.Addr().String()
}

// Certificate of a new key, by the instance's CA.
func (i *Instance) Certificate(profile ca.Profile, name string) tls.Certificate {
	i.t.Helper()
	return *catest.Certificate(i.t, i.CA.Issuer(), ca.Request{Profile: profile, DNSNames: []string{name}})
}

// Request of a new device, with its code.
func (i *Instance) Request() otp.Code {
	i.t.Helper()
	i.names++
	_, code, err := i.CreateRequest(i.t.Context(), Admin, enroll.NewRequest{
		User: fmt.Sprintf("user-%d", i.names), Email: fmt.Sprintf("user-%d@example.com", i.names), Device: fmt.Sprintf("device-%d", i.names),
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return code
}

// Dial sends connections to names to addresses on loopback; other names aren't
// there. It remembers what was dialled.
type Dial struct {
	mu     sync.Mutex
	places map[string]string
	dialed []string
}

// NewDial knows the given names, each HOST:PORT, and where they are.
func NewDial(places map[string]string) *Dial { return &Dial{places: places} }

// Context is a client.Dial.
func (d *Dial) Context(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, address)
	to, ok := d.places[address]
	d.mu.Unlock()
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// Dialed so far, in order.
func (d *Dial) Dialed() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.dialed...)
}
