package device

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
)

// serve runs a real session server on the world's engine until the returned
// function is called.
func (w *loopbackWorld) serve() (stop func()) {
	w.Helper()
	leases, err := lease.Open("", lease.Config{Pools: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}})
	if err != nil {
		w.Fatal(err)
	}
	policy, err := admit.New(admit.Config{Roots: []*x509.Certificate{w.gateway.root}, Group: "field"})
	if err != nil {
		w.Fatal(err)
	}
	server, err := session.New(session.Config{
		Settings: session.Settings{
			IKE: w.gateway.cfg, Admit: policy,
			Gate: gate.Config{MaxHalfOpen: 100, CookieAt: 1, MaxHalfOpenPrefix: 100, CookieAtPrefix: 1, AnswersPerSecond: 1000},
		},
		Shards: 2, Workers: 2, Backend: w.backend, Events: w.events, Leases: leases,
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("Run: %v", err)
		}
		if err := leases.Close(); err != nil {
			w.Error(err)
		}
	}
}

// TestSessionServer: devices on a gateway's own session server, which wants
// cookies. One roams, one has its port remapped, one sleeps; all rekey; none
// loses anything for good. In the end the gateway sends them away.
func TestSessionServer(t *testing.T) {
	w := newLoopbackWorld(t)
	stop := w.serve()
	var devices [3]*Device
	var ips [3]netip.Addr
	for i, name := range []string{"roamer", "remapped", "sleeper"} {
		devices[i], ips[i] = w.connect(name)
	}
	n := 0
	all := func() {
		for i, d := range devices {
			w.arrives(d, ips[i], n)
			n++
		}
	}
	wait := func(d *Device, condition func(Info) bool) {
		t.Helper()
		ctx, cancel := timeout(t, 10*time.Second)
		defer cancel()
		if _, err := d.Await(ctx, condition); err != nil {
			t.Fatalf("%v; %+v", err, d.Info())
		}
	}
	all()
	for _, d := range devices {
		if err := d.RekeyChild(); err != nil {
			t.Fatal(err)
		}
		wait(d, func(i Info) bool { return i.ChildSAs == 2 && i.Children == 1 })
	}
	all()

	if err := devices[0].Roam(must(loopbackSocket())); err != nil {
		t.Fatal(err)
	}
	wait(devices[0], func(i Info) bool { return i.Moves == 1 })
	if err := devices[2].Sleep(); err != nil {
		t.Fatal(err)
	}
	w.both(devices[2], ips[2], n, 20*time.Millisecond) // nobody is there
	if err := devices[2].Wake(); err != nil {
		t.Fatal(err)
	}
	n++
	if err := devices[1].RemapPort(); err != nil {
		t.Fatal(err)
	}
	// The hint is in what it sends; the answer shows that the gateway followed.
	w.eventually("return to the remapped device", func() bool {
		n++
		_, down := w.both(devices[1], ips[1], n, 20*time.Millisecond)
		return down
	})
	n++
	all()

	stop()
	for _, d := range devices {
		ctx, cancel := timeout(t, 5*time.Second)
		i, err := d.Await(ctx, func(i Info) bool { return i.State == Ended })
		cancel()
		if err != nil || i.Closed == nil || i.Closed.Reason != ike.ClosePeerDeleted {
			t.Errorf("after the gateway's end: %+v, %v", i, err)
		}
	}
}

// TestSessionServerRefuses: what it refuses, and whom.
func TestSessionServerRefuses(t *testing.T) {
	w := newLoopbackWorld(t)
	stop := w.serve()
	defer stop()
	at := w.backend.Locals()[0]
	stranger := newGateway(t, w.backend, nil) // another CA
	for what, edit := range map[string]func(*Config){
		"NO_PROPOSAL_CHOSEN":    func(c *Config) { c.Profile = Windows10Default },
		"AUTHENTICATION_FAILED": func(c *Config) { c.Credential = stranger.issue("dev") },
	} {
		cfg := w.gateway.config("dev")
		cfg.Gateway, cfg.GatewayNATT, cfg.Listen = at.IKE, at.Encap, loopbackSocket
		edit(&cfg)
		d := must(New(cfg))
		_, err := d.Connect(t.Context())
		want := ClosedError{Reason: ike.ClosePeerRefused, Detail: what}
		if closed := new(ClosedError); !errors.As(err, &closed) || *closed != want {
			t.Errorf("Connect: %v, want %v", err, &want)
		}
		d.Vanish()
	}
}
