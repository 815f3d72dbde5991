package fleet_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

// gateways are joined by fingerprint, certified anew in time, removed.
func gateways(t *testing.T, w *world) {
	f, stop := w.manager(t, nil)
	g := w.gateway(t, "gateway-1", filepath.Join(t.TempDir(), "file"), catest.NewKey(t))
	wrong := g.known
	wrong[0] ^= 1
	if err := f.AddGateway(t.Context(), g.Gateway, wrong); !errors.Is(err, push.ErrGateway) {
		t.Errorf("another fingerprint: %v", err)
	}
	for _, called := range []string{"", "Gateway", "gateway@1", strings.Repeat("g", 33)} {
		other := g.Gateway
		other.Name = called
		if err := f.AddGateway(t.Context(), other, g.known); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("a gateway called %q: %v", called, err)
		}
	}
	must(t, f.AddGateway(t.Context(), g.Gateway, g.known))
	if err := f.AddGateway(t.Context(), g.Gateway, g.known); !errors.Is(err, fleet.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/24")))
	status := func(f *fleet.Fleet) fleet.Status {
		all, err := f.Status(t.Context())
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("%d gateways", len(all))
		}
		return all[0]
	}
	eventually(t, "it has what was committed", func() bool { s := status(f); return s.Connected && len(s.Drift) == 0 && g.same(f) })
	certificate := func() *x509.Certificate { return g.certificate(t) }
	first := certificate()
	must(t, f.Keep(t.Context()))
	if again := certificate(); !again.Equal(first) {
		t.Error("a new certificate is renewed")
	}
	// Another manager, started after that, knows it, and renews it in time, as the
	// first one could have.
	stop()
	w.clock.add(first.NotAfter.Sub(first.NotBefore) * 2 / 3)
	f, _ = w.manager(t, nil)
	// A try that fails is repeated ten minutes later; each look here makes it a second
	// later, and the manager tries every ten real ones.
	eventually(t, "it is renewed", func() bool {
		w.clock.add(time.Second)
		return !certificate().Equal(first)
	})
	eventually(t, "it is connected", func() bool { return status(f).Connected })
	must(t, f.Push(t.Context(), "gateway-1"))
	// A revoked certificate ends the connection that is there, and isn't renewed.
	stolen := certificate()
	w.outbox.tell(w.revocation(stolen))
	must(t, f.Follow(t.Context()))
	eventually(t, "it is cut off", func() bool { s := status(f); return !s.Connected && strings.Contains(s.Err, "revoked") })
	w.clock.add(stolen.NotAfter.Sub(stolen.NotBefore) * 2)
	must(t, f.Keep(t.Context()))
	if !certificate().Equal(stolen) {
		t.Error("it has a new certificate")
	}
	must(t, f.RemoveGateway(t.Context(), "gateway-1"))
	if all, err := f.Status(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after it was removed: %v, %v", all, err)
	}
	_, drained := f.Drain(t.Context(), "gateway-1", gcm.Drain{On: true})
	for name, err := range map[string]error{"remove": f.RemoveGateway(t.Context(), "gateway-1"), "push": f.Push(t.Context(), "gateway-1"), "drain": drained} {
		if !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("%s a gateway that isn't there: %v", name, err)
		}
	}
}

// at is where a device is, as "gateway/session gateway/session".
func at(t testing.TB, f *fleet.Fleet, device string) string {
	t.Helper()
	all, err := f.Where(t.Context(), device)
	must(t, err)
	var b []string
	for _, s := range all {
		b = append(b, s.Gateway+"/"+s.Session)
	}
	return strings.Join(b, " ")
}

// where follows a phone that moves: its older session is ended, also when the
// gateway that has it was away meanwhile.
func where(t *testing.T, w *world) {
	heard := make(chan string, 100)
	f, stop := w.manager(t, func(o *fleet.Options) { o.Started = func(device string) { heard <- device } })
	w.outbox.tell(enrolled(1), enrolled(2))
	must(t, f.Follow(t.Context()))
	g := w.join(t, f, "one", "two")
	one, two := g[0], g[1]
	eventually(t, "devices are authorised", func() bool { return f.Documents().Len(gcm.Devices) == 2 })
	phone := name(1)
	is := func(want string) {
		t.Helper()
		eventually(t, phone+" is at "+want, func() bool { return at(t, f, phone) == want })
	}
	now := time.Now()
	w.clock.add(time.Hour) // so that events aren't later than that
	one.started(phone, "a", now)
	is("one/a")
	if got := <-heard; got != phone {
		t.Errorf("%s is heard", got)
	}
	two.started(phone, "b", now.Add(time.Second))
	eventually(t, "the older one is ended", func() bool { ended, _, _ := one.done(); return slices.Contains(ended, phone+"/a") })
	// The gateway may take a minute to tell that a device that is gone has not heard
	// of it.
	is("two/b")
	one.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: phone, Session: "a"})
	eventually(t, "it has told at last", func() bool {
		all, err := f.Events(t.Context(), phone, "one", 0, 1)
		return err == nil && len(all) == 1 && all[0].Kind == gcm.SessionEnded
	})
	// The end of a former session is told after the next one's start.
	two.started(phone, "c", now.Add(2*time.Second))
	two.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: phone, Session: "b"})
	two.Events.Add(gcm.Event{Kind: gcm.Counters, Sums: map[string]uint64{"sessions": 1}})
	is("two/c")
	if got, _, _ := two.done(); len(got) != 0 {
		t.Errorf("at the gateway that has the newest: ended %v", got)
	}
	all, err := f.Sessions(t.Context(), "two", "", 10)
	if err != nil || len(all) != 1 || all[0].Peer.String() != "192.0.2.7:4500" || len(all[0].Addresses) != 1 {
		t.Errorf("sessions of two: %+v, %v", all, err)
	}
	// A manager that begins knows it, too.
	stop()
	f, _ = w.manager(t, nil)
	is("two/c")
	eventually(t, "gateways are connected", func() bool { return one.same(f) && two.same(f) })
	if n, err := f.EndSessions(t.Context(), phone); n != 1 || err != nil {
		eventually(t, "it can be ended", func() bool { n, err = f.EndSessions(t.Context(), phone); return n == 1 && err == nil })
	}
	is("")
	events, err := f.Events(t.Context(), phone, "", 0, 3)
	if err != nil || len(events) != 3 || events[0].Kind != gcm.SessionEnded || events[0].Session != "b" || events[0].Gateway != "two" {
		t.Errorf("the newest events: %+v, %v", events, err)
	}
	if older, err := f.Events(t.Context(), "", "two", events[0].ID, 10); err != nil || len(older) != 2 {
		t.Errorf("before: %+v, %v", older, err)
	}
	// A wiped device's end is believed although it isn't authorised any more.
	two.started(phone, "e", now.Add(3*time.Second))
	is("two/e")
	w.outbox.tell(closed(1))
	must(t, f.Follow(t.Context()))
	eventually(t, "it is closed", func() bool { return f.Documents().Len(gcm.Devices) == 1 })
	two.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: phone, Session: "e"})
	is("")
	// A gateway that was started anew has no sessions.
	two.started(name(2), "d", now)
	eventually(t, "the other one is there", func() bool { return at(t, f, name(2)) == "two/d" })
	two.Events.Add(gcm.Event{Kind: gcm.Dropped, Reason: gcm.ReasonRestart})
	eventually(t, "all are gone", func() bool { return at(t, f, name(2)) == "" })
	w.clock.add(31 * 24 * time.Hour)
	must(t, f.Keep(t.Context()))
	if left, err := f.Events(t.Context(), "", "", 0, 10); err != nil || len(left) != 0 {
		t.Errorf("after a month: %+v, %v", left, err)
	}
}

// notices go to the gateway at which the device is, and drains to one that comes
// back, too.
func notices(t *testing.T, w *world) {
	f, _ := w.manager(t, nil)
	w.outbox.tell(enrolled(1))
	must(t, f.Follow(t.Context()))
	g := w.join(t, f, "one", "two")
	now := time.Now()
	w.clock.add(time.Hour)
	tunnel, phone := f.Tunnel(), name(1)
	deliver := func(want alert.Result) {
		t.Helper()
		if got := tunnel.Deliver(t.Context(), phone, []byte("come")); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	deliver(alert.Unreachable)
	g[0].started(phone, "a", now)
	eventually(t, "it is there", func() bool { return at(t, f, phone) == "one/a" })
	deliver(alert.Sent)
	if _, alerts, _ := g[0].done(); !slices.Equal(alerts, []string{phone + " come"}) {
		t.Errorf("alerts %q", alerts)
	}
	// It is gone, and nobody has told yet.
	g[0].mu.Lock()
	g[0].without = phone
	g[0].mu.Unlock()
	deliver(alert.Unreachable)
	must(t, f.RemoveGateway(t.Context(), "two"))
	drain := gcm.Drain{On: true, To: "two.example.org", Within: 60}
	eventually(t, "it is drained", func() bool {
		now, err := f.Drain(t.Context(), "one", drain)
		must(t, err)
		return now
	})
	if _, _, got := g[0].done(); got != drain {
		t.Errorf("drain %+v", got)
	}
	must(t, g[0].Drain(gcm.Drain{})) // as if it were started anew
	next, _ := w.manager(t, nil)
	eventually(t, "it is drained again", func() bool { _, _, got := g[0].done(); return got == drain })
	if now, err := next.Drain(t.Context(), "one", gcm.Drain{}); !now || err != nil {
		t.Errorf("undrained: %t, %v", now, err)
	}
	if _, _, got := g[0].done(); got.On {
		t.Errorf("drain %+v", got)
	}
	if _, err := f.Drain(t.Context(), "one", gcm.Drain{On: true, Within: -1}); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("within less than nothing: %v", err)
	}
}

// liar is a gateway that speaks of another one's devices: it speaks for itself
// only, and what it can do by that is bounded.
func liar(t *testing.T, w *world) {
	f, _ := w.manager(t, func(o *fleet.Options) { o.EventsOfGateway = 20 })
	w.outbox.tell(enrolled(1))
	must(t, f.Follow(t.Context()))
	g := w.join(t, f, "honest", "liar")
	honest, liar := g[0], g[1]
	phone := name(1)
	eventually(t, "it is authorised", func() bool { return f.Documents().Len(gcm.Devices) == 1 })
	now := time.Now()
	w.clock.add(time.Hour)
	honest.started(phone, "a", now)
	eventually(t, "it is there", func() bool { return at(t, f, phone) == "honest/a" })
	liar.Events.Add(gcm.Event{Kind: gcm.SessionEnded, Device: phone, Session: "a"})
	liar.Events.Add(gcm.Event{Kind: gcm.SessionMoved, Device: phone, Session: "a"})
	liar.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "nobody", Session: "b"})
	liar.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "a/../b", Session: "b"})
	liar.Events.Add(gcm.Event{Kind: gcm.Dropped, Reason: gcm.ReasonRestart})
	liar.Events.Add(gcm.Event{Kind: gcm.Counters, Sums: map[string]uint64{"sessions": 1}})
	eventually(t, "the liar is heard", func() bool {
		all, err := f.Events(t.Context(), "", "liar", 0, 1)
		return err == nil && len(all) == 1 && all[0].Kind == gcm.Counters
	})
	if at(t, f, phone) != "honest/a" || at(t, f, "nobody") != "" {
		t.Errorf("the phone is at %q, nobody at %q", at(t, f, phone), at(t, f, "nobody"))
	}
	// Its word ends the older session, as that of any gateway does. A clock that is
	// far ahead doesn't make it the newest for ever.
	liar.started(phone, "x", now.Add(1000*time.Hour))
	eventually(t, "the phone is said to be elsewhere", func() bool { return at(t, f, phone) == "liar/x" })
	for n := range 100 {
		liar.started(phone, fmt.Sprint("x", n), now.Add(time.Duration(n)*time.Second))
	}
	eventually(t, "all of it is heard", func() bool { return strings.Contains(at(t, f, phone), "liar/x99") })
	if got, _, _ := honest.done(); len(got) > 10 {
		t.Errorf("its word has ended sessions elsewhere: %v", got)
	}
	if got := f.Documents().Len(gcm.Devices); got != 1 {
		t.Errorf("%d records", got)
	}
	must(t, f.Keep(t.Context()))
	for gateway, want := range map[string]int{"honest": 1, "liar": 20} {
		kept, err := f.Events(t.Context(), "", gateway, 0, 1000)
		if must(t, err); len(kept) != want || gateway == "liar" && kept[0].Session != "x99" {
			t.Errorf("events of the %s: %+v", gateway, kept)
		}
	}
	for f.Believed("liar", phone) {
		continue
	}
	// Speaking of everybody doesn't make it believed again.
	for n := range 1 << 18 {
		f.Believed("liar", name(n+2))
	}
	if f.Believed("liar", phone) || f.Believed("liar", name(1<<19)) {
		t.Error("the liar is believed again")
	}
	if !f.Believed("honest", phone) {
		t.Error("the honest one isn't believed")
	}
}

// twoManagers share a database and gateways: both see what either commits, and
// one that was asleep doesn't overwrite anything.
func twoManagers(t *testing.T, w *world) {
	a, _ := w.manager(t, nil)
	g := w.join(t, a, "one", "two")
	b, stop := w.manager(t, nil)
	must(t, b.SetContent(t.Context(), pools("10.64.0.0/24")))
	w.outbox.tell(enrolled(1), enrolled(2))
	must(t, b.Follow(t.Context()))
	same := func(f *fleet.Fleet) func() bool {
		return func() bool { return g[0].same(f) && g[1].same(f) && f.Documents().Len(gcm.Devices) == 2 }
	}
	eventually(t, "all have it, by the one", same(a))
	eventually(t, "and by the other", same(b))
	// This one reads nothing any more, as if its process were stopped.
	stop()
	must(t, a.SetCompliant(t.Context(), name(1), false))
	must(t, a.SetGroup(t.Context(), name(2), "sales"))
	eventually(t, "it is in quarantine", func() bool { group, _ := authorised(t, g[0], name(1)); return group == "quarantine" })
	// When it wakes, what it commits comes after all that.
	must(t, b.SetCompliant(t.Context(), name(2), false))
	must(t, b.SetCompliant(t.Context(), name(2), true))
	eventually(t, "both have the same", func() bool {
		one, h, _ := a.Documents().Version(gcm.Devices)
		other, i, _ := b.Documents().Version(gcm.Devices)
		return one == other && h == i
	})
	eventually(t, "and so have gateways", same(a))
	for n, want := range []string{"quarantine", "sales"} {
		if group, _ := authorised(t, g[1], name(n+1)); group != want {
			t.Errorf("%s is in %q, want %q", name(n+1), group, want)
		}
	}
}

// histories at random: managers that commit at the same time, are stopped and
// started, gateways that are killed and begin with their file; in the end all
// have the same, and it is what the database says.
func histories(t *testing.T, w *world) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type running struct {
		*fleet.Fleet
		stop func()
	}
	start := func() running { f, stop := w.manager(t, nil); return running{f, stop} }
	managers := []running{start(), start()}
	must(t, managers[0].SetContent(t.Context(), pools("10.64.0.0/20")))
	type life struct {
		*gateway
		file string
	}
	var gates []life
	key := catest.NewKey(t)
	for n := range 2 {
		file := filepath.Join(t.TempDir(), "file")
		g := w.gateway(t, fmt.Sprint("gateway-", n), file, key)
		must(t, managers[0].AddGateway(t.Context(), g.Gateway, g.known))
		gates = append(gates, life{g, file})
	}
	errs := make(chan error, 1000)
	pending := 0
	do := func(f func() error) {
		pending++
		go func() { errs <- f() }()
	}
	const devices = 60
	alive := map[int]bool{}
	for range 150 {
		m := managers[r.IntN(2)]
		n := r.IntN(devices)
		switch r.IntN(12) {
		case 0, 1, 2, 3:
			w.outbox.tell(enrolled(n, fmt.Sprint("group-", r.IntN(3))))
			alive[n] = true
			must(t, m.Follow(t.Context()))
		case 4, 5:
			w.outbox.tell(closed(n), revoked(n))
			delete(alive, n)
			do(func() error { return m.Follow(t.Context()) })
		case 6:
			comply := r.IntN(2) == 0
			do(func() error { return m.SetCompliant(t.Context(), name(n), comply) })
		case 7:
			c := pools("10.64.0.0/20")
			c.Groups = map[string]fleet.Group{"group-1": {DeviceRate: uint64(r.IntN(1000))}}
			do(func() error { return m.SetContent(t.Context(), c) })
		case 8:
			do(func() error { return m.SetGroup(t.Context(), name(n), "other") })
		case 9:
			k := r.IntN(2)
			managers[k].stop()
			managers[k] = start()
		case 10:
			k := r.IntN(2)
			old := gates[k]
			old.stop()
			g := w.gateway(t, old.Name, old.file, key)
			must(t, m.RemoveGateway(t.Context(), old.Name))
			must(t, m.AddGateway(t.Context(), g.Gateway, g.known))
			gates[k] = life{g, old.file}
		case 11:
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	}
	for range pending {
		if err := <-errs; err != nil && !errors.Is(err, fleet.ErrNotFound) {
			t.Error(err)
		}
	}
	must(t, managers[0].Follow(t.Context()))
	// A manager that was stopped meanwhile may have committed last, so that neither of
	// these has read it yet; who begins now reads what is in the database.
	fresh := start()
	eventually(t, "managers have what is in the database", func() bool {
		for _, s := range gcm.Sections {
			v, h, _ := fresh.Documents().Version(s)
			for _, m := range managers {
				if u, i, _ := m.Documents().Version(s); u != v || h != i {
					return false
				}
			}
		}
		return true
	})
	for _, g := range gates {
		eventually(t, g.Name+" has it, too", func() bool { return g.same(managers[0].Fleet) })
	}
	for n := range devices {
		if _, known := authorised(t, gates[0].gateway, name(n)); known != alive[n] {
			t.Errorf("%s is authorised: %t", name(n), known)
		}
	}
}
