package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/guard"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// guardRig is a guard on the loopback interface of this namespace, for sockets of
// a gateway and a stranger.
type guardRig struct {
	*guardLayer
	events chan dataplane.Event
	secret gate.Secret
}

func newGuardRig(t *testing.T, change ...func(*config.Config)) *guardRig {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Gateway.External.Interface, c.Gateway.External.Address = "lo", netip.MustParseAddr("127.0.0.1")
	c.Gateway.External.MoreAddresses = []netip.Addr{netip.MustParseAddr("::1")}
	c.Gateway.Guard.Pins, c.StateDir = "", t.TempDir()
	c.Gateway.Limits.Sessions = 10
	for _, f := range change {
		f(c)
	}
	r := &guardRig{events: make(chan dataplane.Event, 10), secret: gate.Secret{1, 2, 3}}
	r.guardLayer, err = openGuard(c, r.secret, r.events, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if r.off() {
		t.Fatalf("the guard is off: %s", r.why)
	}
	return r
}

// once lets the first message of an IKE SA pass, and without a cookie no other
// in the same second: nothing slower can be configured.
func once(c *config.Config) {
	c.Gateway.Guard.Rates.Init = config.Rate{PerSecond: 1, Burst: 1}
}

func udpAt(t *testing.T, at string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func receive(t *testing.T, conn *net.UDPConn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func firstMessage(t *testing.T, spi uint64, cookie []byte) []byte {
	t.Helper()
	m := &ikewire.Message{Header: ikewire.Header{
		InitiatorSPI: spi, Exchange: ikewire.IKESAInit, Flags: ikewire.FlagInitiator,
	}}
	if cookie != nil {
		m.Payloads = append(m.Payloads, &ikewire.Notify{NotifyType: ikewire.NotifyCookie, Data: cookie})
	}
	m.Payloads = append(m.Payloads,
		&ikewire.KE{Group: ikewire.GroupCurve25519, Data: make([]byte, 32)},
		&ikewire.Nonce{Data: []byte("a nonce of thirty-three octets ..")})
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Guard and gate share a secret: what one asks for, the other accepts, and
// their answers are the same octets; on both ports, over both families.
func TestGuardAndGateShareCookies(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	r := newGuardRig(t, once)
	cfg := gate.DefaultConfig()
	cfg.CookieAt = 0 // always
	judge, err := gate.New(cfg, r.secret)
	if err != nil {
		t.Fatal(err)
	}
	spend := udpAt(t, "127.0.0.1:500")
	stranger := udpAt(t, "127.0.0.2:700")
	began := time.Now()
	if _, err := stranger.WriteToUDPAddrPort(firstMessage(t, 1, nil), netip.MustParseAddrPort("127.0.0.1:500")); err != nil {
		t.Fatal(err)
	}
	receive(t, spend)
	_ = spend.Close()
	passed, asked := uint64(1), uint64(0)
	// pass says whether the last request did; if not it was asked for a cookie.
	pass := func() bool {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			switch counts := r.verdicts(); {
			case counts["init"] > passed:
				passed++
				return true
			case counts["cookie_sent"] > asked:
				asked++
				return false
			}
		}
		t.Fatalf("neither passed nor asked: verdicts %v", r.verdicts())
		return false
	}

	for i, c := range []struct{ gateway, device string }{
		{"127.0.0.1:500", "127.0.0.2:500"}, {"127.0.0.1:4500", "127.0.0.2:1024"},
		{"[::1]:500", "[::1]:60000"}, {"[::1]:4500", "[::1]:4501"},
	} {
		gateway, device := udpAt(t, c.gateway), udpAt(t, c.device)
		to, from := netip.MustParseAddrPort(c.gateway), netip.MustParseAddrPort(c.device)
		var marker []byte
		if to.Port() == 4500 {
			marker = make([]byte, 4)
		}
		send := func(message []byte) {
			t.Helper()
			if _, err := device.WriteToUDPAddrPort(append(bytes.Clone(marker), message...), to); err != nil {
				t.Fatal(err)
			}
		}
		spi := uint64(100 + i)
		request := firstMessage(t, spi, nil)
		judged := judge.Check(time.Now(), from, request, nil)
		send(request)
		for pass() { // a second that went by has brought that back
			receive(t, gateway)
			if took := time.Since(began); passed > 1+uint64(took/time.Second) {
				t.Fatalf("%d passed without a cookie in %v", passed, took)
			}
			judged = judge.Check(time.Now(), from, request, nil)
			send(request)
		}
		answer := bytes.TrimPrefix(receive(t, device), marker)
		if again := judge.Check(time.Now(), from, request, nil); !bytes.Equal(answer, judged.Answer) && !bytes.Equal(answer, again.Answer) {
			t.Errorf("%s: XDP answers % x, gate % x", c.gateway, answer, judged.Answer)
		}
		m, err := ikewire.Parse(answer)
		if err != nil || len(m.Payloads) != 1 || m.InitiatorSPI != spi || m.Exchange != ikewire.IKESAInit {
			t.Fatalf("%s: answer %+v, %v", c.gateway, m, err)
		}
		notify, ok := m.Payloads[0].(*ikewire.Notify)
		if !ok || notify.NotifyType != ikewire.NotifyCookie {
			t.Fatalf("%s: answer %+v", c.gateway, m.Payloads[0])
		}
		if res := judge.Check(time.Now(), from, firstMessage(t, spi, notify.Data), nil); res.Verdict != gate.Pass {
			t.Errorf("%s: gate doesn't accept a cookie of XDP: %v", c.gateway, res.Reason)
		}
		judgedCookie := bytes.Clone(judged.Answer[36:])
		with := firstMessage(t, spi, judgedCookie)
		send(with)
		if got := bytes.TrimPrefix(receive(t, gateway), marker); !bytes.Equal(got, with) {
			t.Errorf("%s: with gate's cookie % x arrives", c.gateway, got)
		}
	}
	counts := r.verdicts()
	if counts["init"] != passed || counts["init_cookie"] != 4 || counts["cookie_sent"] != 4 {
		t.Errorf("verdicts %v", counts)
	}
}

// An SPI passes from the moment that the layer admitted it, and is reported when
// it is forgotten; a sample of what is dropped is shown.
func TestGuardLayer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	r := newGuardRig(t)
	if layers := r.layers(); len(layers) != 1 {
		t.Fatalf("%d layers", len(layers))
	}
	gateway, device := udpAt(t, "127.0.0.1:4500"), udpAt(t, "127.0.0.2:4500")
	packet := append(binary.BigEndian.AppendUint32(nil, 0xabcd0123), make([]byte, 40)...)
	send := func() {
		t.Helper()
		if _, err := device.WriteToUDPAddrPort(packet, netip.MustParseAddrPort("127.0.0.1:4500")); err != nil {
			t.Fatal(err)
		}
	}
	child := &dataplane.Child{Inbound: dataplane.SA{SPI: 0xabcd0123}}
	if err := errors.Join(r.Admit([]*dataplane.Child{child})...); err != nil {
		t.Fatal(err)
	}
	send()
	if got := receive(t, gateway); !bytes.Equal(got, packet) {
		t.Errorf("% x", got)
	}
	if err := r.Regroup(0xabcd0123, "staff"); err != nil {
		t.Error(err)
	}
	r.Forget([]dataplane.SPI{0xabcd0123, 0x999})
	ctx, cancel := context.WithCancel(t.Context())
	drops, err := r.watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send()
	event := <-r.events
	want := dataplane.UnknownSPI{
		SPI: 0xabcd0123, Local: netip.MustParseAddrPort("127.0.0.1:4500"), Remote: netip.MustParseAddrPort("127.0.0.2:4500"),
	}
	if event != want {
		t.Errorf("event %+v, want %+v", event, want)
	}
	shown := <-drops
	if shown.Reason != "esp_unknown_spi" || shown.Remote != want.Remote || shown.Local != want.Local ||
		shown.Length != 14+28+len(packet) || time.Since(shown.Time).Abs() > time.Minute {
		t.Errorf("shown %+v", shown)
	}
	cancel()
	if d, ok := <-drops; ok {
		t.Errorf("after the end: %+v", d)
	}
	if n := r.drops()["esp_unknown_spi"]; n != 1 {
		t.Errorf("%d drops", n)
	}
	if _, ok := r.drops()["esp"]; ok {
		t.Error("what passed is among the drops")
	}

	// A reload makes it a shield, and takes that back.
	for _, shield := range []bool{true, false} {
		changed := config.Default().Gateway.Guard
		changed.Shield = shield
		if err := r.use(changed.Settings()); err != nil {
			t.Fatal(err)
		}
		before := r.verdicts()["shield"]
		if _, err := device.WriteToUDPAddrPort([]byte{1}, netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
			t.Fatal(err)
		}
		if dropped := r.verdicts()["shield"] > before; dropped != shield {
			t.Errorf("shield %t: dropped %t", shield, dropped)
		}
	}

	// More than there is room for.
	many := make([]*dataplane.Child, 2*maxChildren(10))
	for i := range many {
		many[i] = &dataplane.Child{Inbound: dataplane.SA{SPI: dataplane.SPI(1000 + i)}}
	}
	full := 0
	for _, err := range r.Admit(many) {
		if errors.Is(err, dataplane.ErrFull) {
			full++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == 0 {
		t.Error("a table without end")
	}
}

// What was pinned for an interface that is gone is taken away, what another
// namespace has isn't.
func TestPinsOfInterfacesThatAreGone(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	for _, name := range []string{namespacePrefix() + "1", namespacePrefix() + "77", "12-77", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweepPins(dir, slog.New(slog.DiscardHandler))
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"12-77", namespacePrefix() + "1", "other"}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

// Where XDP can't be attached the gateway goes on without.
func TestGuardIsOff(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newGuardRig(t) // has the interface, for other addresses
	c := config.Default()
	c.Gateway.External.Interface, c.Gateway.External.Address = "lo", netip.MustParseAddr("127.0.0.3")
	c.Gateway.Guard.Pins, c.StateDir = "", t.TempDir()
	for _, mode := range []config.GuardMode{config.GuardNative, config.GuardGeneric, config.GuardAuto, config.GuardOff} {
		c.Gateway.Guard.Mode = mode
		l, err := openGuard(c, gate.Secret{1}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if s := l.status(false); s.Mode != "off" || s.Reason == "" || len(l.layers()) != 0 || l.verdicts() != nil {
			t.Errorf("%s: %+v", mode, s)
		}
		if _, err := l.watch(t.Context()); !errors.Is(err, local.ErrConflict) {
			t.Errorf("%s: watch: %v", mode, err)
		}
		if err := errors.Join(l.use(guard.Settings{}), l.close()); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// A guard that an earlier run pinned goes when the next one has none, or pins
// elsewhere: it would drop the ESP of every new tunnel.
func TestGuardOfAFormerRunGoes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	mount, state := t.TempDir(), t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); errors.Is(err, unix.ENODEV) {
		t.Skip("the kernel has no BPF file system")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	former := filepath.Join(mount, "former")
	pinsAt := func(dir string) func(*config.Config) {
		return func(c *config.Config) { c.StateDir, c.Gateway.Guard.Pins = state, dir }
	}
	attached := func() bool {
		t.Helper()
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		return lo.Attrs().Xdp != nil && lo.Attrs().Xdp.Attached
	}
	pin := func() {
		t.Helper()
		r := newGuardRig(t, pinsAt(former))
		r.keep()
		if err := r.close(); err != nil || !attached() {
			t.Fatalf("after its daemon: on the interface %t, %v", attached(), err)
		}
		r.guard = nil // closed
	}
	for _, next := range []string{"", filepath.Join(mount, "next")} {
		pin()
		r := newGuardRig(t, pinsAt(next)) // fails if the guard is off
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		r.guard = nil
		if attached() {
			t.Errorf("pins %q, never kept: something is still on the interface", next)
		}
	}
	c := config.Default()
	c.Gateway.External.Interface, c.Gateway.External.Address = "lo", netip.MustParseAddr("127.0.0.1")
	for _, mode := range []config.GuardMode{config.GuardOff, config.GuardNative} { // loopback has no native XDP
		pin()
		pinsAt("")(c)
		c.Gateway.Guard.Mode = mode
		l, err := openGuard(c, gate.Secret{1}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if s := l.status(false); s.Mode != "off" || attached() {
			t.Errorf("%s: status says %q, on the interface: %t", mode, s.Mode, attached())
		}
	}
}
