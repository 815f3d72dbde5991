package session

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

var (
	gatewayIKE  = netip.MustParseAddrPort("10.1.0.1:500")
	gatewayNATT = netip.MustParseAddrPort("10.1.0.1:4500")
)

// authority issues certificates that are valid for a day of the bubble's time.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	_, a.key, a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, 365*24*time.Hour)
	return a
}

func (a *authority) sign(template *x509.Certificate, valid time.Duration) (der []byte, key crypto.Signer, cert *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	template.SerialNumber = big.NewInt(a.n)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(valid)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer); err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return der, key, cert
}

// ike makes the configuration of a side that owns a new certificate.
func (a *authority) ike(name string, valid time.Duration) *ike.Config {
	der, key, _ := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, valid)
	return &ike.Config{
		Suites: []ikecrypto.Suite{{Encryption: ikewire.EncrAESGCM16, KeyBits: 128, PRF: ikewire.PRFHMACSHA256, Group: ikewire.GroupCurve25519}},
		ESP:    []dataplane.Algorithm{{Encryption: dataplane.EncryptionAESGCM16, KeyBits: 128}},
		ID:     &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(name)}, Credentials: []ike.Credential{{Chain: [][]byte{der}, Signer: key}},
		HalfOpen: 20 * time.Second, Retransmit: time.Second, Tries: 3,
		MaxChildren: 4,
		Rand:        rand.Reader,
	}
}

func (a *authority) policy(barred ...string) *admit.Policy {
	a.t.Helper()
	p, err := admit.New(admit.Config{Roots: []*x509.Certificate{a.cert}, Group: "field", Barred: barred})
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// world is a gateway that runs, and what a test needs to play with it. All of
// it lives in a synctest bubble.
type world struct {
	t      *testing.T
	net    *network
	ca     *authority
	leases *lease.Registry
	events chan dataplane.Event
	server *Server
	log    *logBuffer
	stop   func() error // ends Run and waits for it
	next   netip.Addr   // address of the next device
	days   int          // that certificates are valid
	ipv6   bool         // devices ask for IPv6 too

	scriptsMu sync.Mutex
	scripts   []*script
}

// logBuffer is written by many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type options struct {
	config func(*Config)
	pools  []string
	ipv6   bool // devices ask for IPv6 too
	// scripted: the machines are scripts.
	scripted bool
	// machine makes the machines, if set.
	machine func(cfg *ike.Config, spiI, spiR uint64) stepper
	// days that certificates are valid; 0 is one.
	days int
}

// run calls test with a gateway in a bubble, and sees that it ends well.
func run(t *testing.T, o options, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, o)
		test(w)
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		w.settled()
		if n := w.server.seats.Load(); n != 0 {
			t.Errorf("%d sessions still hold a lease after the end", n)
		}
		if n := w.leases.Stats().Live; n != 0 {
			t.Errorf("%d leases are live after the end", n)
		}
		_ = w.net.Close()
		if err := w.leases.Close(); err != nil {
			t.Error(err)
		}
	})
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{
		t: t, ca: newAuthority(t), days: max(o.days, 1), ipv6: o.ipv6, events: make(chan dataplane.Event, 16),
		log: &logBuffer{}, next: netip.MustParseAddr("10.1.0.2"),
	}
	w.net = newNetwork(w.events)
	if o.pools == nil {
		o.pools = []string{"10.9.0.0/24"}
	}
	var pools lease.Config
	for _, p := range o.pools {
		pools.Pools = append(pools.Pools, netip.MustParsePrefix(p))
	}
	var err error
	if w.leases, err = lease.Open("", pools); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Settings: Settings{
			IKE: w.ca.ike("gw.example", 24*time.Hour), Admit: w.ca.policy(),
			Gate:     gate.Config{MaxHalfOpen: 1000, CookieAt: 900, MaxHalfOpenPrefix: 1000, CookieAtPrefix: 900, AnswersPerSecond: 2},
			Liveness: LivenessConfig{Idle: time.Minute},
		},
		Shards: 4, Workers: 2, Backend: w.net, Events: w.events, Leases: w.leases,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	cfg.IKE.ForceUDP = true
	if o.config != nil {
		o.config(&cfg)
	}
	switch {
	case o.scripted:
		w.server, err = newServer(cfg, w.makeScript)
	case o.machine != nil:
		w.server, err = newServer(cfg, o.machine)
	default:
		w.server, err = New(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = w.server.Run(ctx)
	}()
	w.stop = func() error {
		cancel()
		<-ended
		return result
	}
	return w
}

// settled waits until nobody has anything to do but wait.
func (w *world) settled() { synctest.Wait() }

// later lets time pass.
func (w *world) later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) want(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// device is an initiator: an ike.Machine of its own and a goroutine that does
// for it what a client does.
type device struct {
	w     *world
	addr  netip.Addr
	inbox chan dataplane.Datagram
	order chan ike.Input
	quit  chan struct{}
	ended chan struct{}

	// Owned by run.
	sa      *peerSA // carries the session
	sas     []*peerSA
	lastSPI dataplane.SPI
	lastIKE uint64

	mu       sync.Mutex
	summary  *ike.Summary
	closed   *ike.Closed
	rekeyed  int  // IKE SAs
	children int  // after the first
	silent   bool // hears and says nothing
}

// connect starts a device and waits until it is up or refused.
func (w *world) connect(name string) *device {
	w.t.Helper()
	return w.connectWith(w.ca.ike(name, time.Duration(w.days)*24*time.Hour))
}

func (w *world) connectWith(cfg *ike.Config) *device {
	w.t.Helper()
	d := w.start(cfg)
	w.settled()
	return d
}

func (w *world) start(cfg *ike.Config) *device {
	d := &device{
		w: w, addr: w.next, inbox: make(chan dataplane.Datagram, 64), order: make(chan ike.Input, 4),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	w.next = w.next.Next()
	w.net.set(func() { w.net.hosts[d.addr] = d.inbox })
	m := ike.NewInitiator(&ike.InitiatorConfig{
		Config: cfg,
		Local:  netip.AddrPortFrom(d.addr, 500), Remote: gatewayIKE,
		LocalNATT: netip.AddrPortFrom(d.addr, 4500), RemoteNATT: gatewayNATT,
		IPv6: w.ipv6,
	}, d.number()<<32)
	d.lastIKE = d.number() << 32
	go d.run(m, d.lastIKE)
	w.t.Cleanup(func() {
		select {
		case <-d.ended:
		default:
			close(d.quit)
		}
	})
	return d
}

// peerSA is one IKE SA of a device.
type peerSA struct {
	m        *ike.Machine
	spi      uint64 // the device's
	original bool
}

// peerInput is an input and the machine that it is for.
type peerInput struct {
	sa *peerSA
	in ike.Input
}

func (d *device) run(m *ike.Machine, spi uint64) {
	defer close(d.ended)
	d.sa = &peerSA{m, spi, true}
	d.sas = []*peerSA{d.sa}
	inputs := []peerInput{{d.sa, ike.Tick{}}}
	for {
		for len(inputs) > 0 {
			next := inputs[0]
			inputs = inputs[1:]
			// Outputs are valid until the next Step only.
			for _, o := range slices.Clone(next.sa.m.Step(time.Now(), next.in)) {
				if answer := d.carryOut(next.sa, o); answer.in != nil {
					inputs = append(inputs, answer)
				}
			}
		}
		var due <-chan time.Time
		var whose *peerSA
		var first time.Time
		for _, sa := range d.sas {
			if at := sa.m.Deadline(); !at.IsZero() && (whose == nil || at.Before(first)) {
				whose, first = sa, at
			}
		}
		if whose != nil {
			// A Tick need not move the deadline.
			due = time.After(max(time.Until(first), time.Millisecond))
		}
		select {
		case <-d.quit:
			return
		case p := <-d.inbox:
			if sa := d.find(p.Data); sa != nil && !d.isSilent() {
				inputs = append(inputs, peerInput{sa, ike.Message{Data: p.Data, Local: p.Local, Remote: p.Remote, Marker: p.Marker}})
			}
		case in := <-d.order:
			inputs = append(inputs, peerInput{d.sa, in})
		case <-due:
			inputs = append(inputs, peerInput{whose, ike.Tick{}})
		}
	}
}

// find returns the IKE SA that a message is for.
func (d *device) find(raw []byte) *peerSA {
	h, err := ikewire.ParseHeader(raw)
	if err != nil {
		return nil
	}
	for _, sa := range d.sas {
		if sa.original != h.FromInitiator() && (sa.original && sa.spi == h.InitiatorSPI || !sa.original && sa.spi == h.ResponderSPI) {
			return sa
		}
	}
	return nil
}

// carryOut returns an answer, to the same machine or to one that was spawned.
func (d *device) carryOut(sa *peerSA, o ike.Output) peerInput {
	answer := func(in ike.Input) peerInput { return peerInput{sa, in} }
	switch o := o.(type) {
	case ike.Send:
		if !d.isSilent() {
			d.w.net.send(dataplane.Datagram{Data: o.Data, Local: o.Local, Remote: o.Remote, Marker: o.Marker})
		}
	case ike.Work:
		return answer(ike.WorkDone{ID: o.ID, Result: o.Do()})
	case ike.AskAdmit:
		cert, err := x509.ParseCertificate(o.Chain[0])
		if err != nil {
			return answer(ike.Refused{Reason: err.Error()})
		}
		return answer(ike.Admitted{Device: "gateway", PublicKey: cert.PublicKey})
	case ike.Reserve:
		d.lastSPI++
		return answer(ike.Reserved{ID: o.ID, SPI: dataplane.SPI(0xd0000+uint32(d.number())<<8) + d.lastSPI})
	case ike.ReserveIKE:
		d.lastIKE++
		return answer(ike.ReservedIKE{ID: o.ID, SPI: d.lastIKE})
	case ike.Apply:
		if o.Wait {
			return answer(ike.Applied{ID: o.ID})
		}
	case ike.Spawned:
		next := &peerSA{o.Next, o.ResponderSPI, o.Original}
		if o.Original {
			next.spi = o.InitiatorSPI
		}
		d.sas = append(d.sas, next)
		if o.Redundant {
			return peerInput{next, ike.Close{Reason: ike.CloseRekeyed}}
		}
	case ike.Rekeyed:
		for _, next := range d.sas {
			if next.m == o.Next {
				d.sa = next
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.rekeyed++
	case ike.Established:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.summary = &o.Summary
	case ike.ChildUp:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.children++
	case ike.Closed:
		if sa == d.sa {
			d.mu.Lock()
			d.closed = &o
			d.mu.Unlock()
		}
		if !o.Linger {
			d.sas = slices.DeleteFunc(d.sas, func(x *peerSA) bool { return x == sa })
		}
	case ike.Forget:
		d.sas = slices.DeleteFunc(d.sas, func(x *peerSA) bool { return x == sa })
	}
	return peerInput{}
}

// number of a device, from its address.
func (d *device) number() uint64 {
	b := d.addr.As4()
	return uint64(b[2])<<8 | uint64(b[3])
}

// vanish leaves the gateway alone.
func (d *device) vanish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = true
}

func (d *device) isSilent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.silent
}

// state is "up", "closed: REASON" or "connecting".
func (d *device) state() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed != nil:
		return "closed: " + string(d.closed.Reason)
	case d.summary != nil:
		return "up"
	}
	return "connecting"
}

func (d *device) virtualIP() netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.summary == nil {
		return netip.Addr{}
	}
	return d.summary.VirtualIPs[0]
}

func (w *world) wantLog(parts ...string) {
	w.t.Helper()
	for _, p := range parts {
		if log := w.log.String(); !strings.Contains(log, p) {
			w.t.Errorf("no %q in the log:\n%s", p, log)
		}
	}
}

// wantEmpty: the data plane has nothing of ours.
func (w *world) wantEmpty() {
	w.t.Helper()
	if reserved, installed := w.net.state(); reserved+installed != 0 {
		w.t.Errorf("%d SPIs reserved, %d installed", reserved, installed)
	}
}
