package session

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
)

// Jobs of sessions that are up overtake those of strangers, and of these the
// ones that were begun overtake newcomers; but each fourth job is a stranger's,
// however much sessions want.
func TestJobsInTheirOrder(t *testing.T) {
	w := newWorkers(1)
	var done []string
	for i := range 8 {
		for c, name := range map[class]string{classNewcomer: "new", classHandshake: "begun", classSession: "up"} {
			w.put(c, func() { done = append(done, fmt.Sprint(name, i)) })
		}
	}
	for {
		job, ok := w.take()
		if !ok {
			break
		}
		job()
	}
	want := []string{
		"up0", "up1", "up2", "begun0", "up3", "up4", "up5", "begun1", "up6", "up7", "begun2", "begun3",
		"begun4", "begun5", "begun6", "begun7", "new0", "new1", "new2", "new3", "new4", "new5", "new6", "new7",
	}
	if !slices.Equal(done, want) {
		t.Errorf("done in the order %v, want %v", done, want)
	}
}

// slow is a machine whose computations take time.
type slow struct {
	*ike.Machine
	takes time.Duration
}

func (s slow) Step(now time.Time, in ike.Input) []ike.Output {
	out := s.Machine.Step(now, in)
	for i, o := range out {
		if w, ok := o.(ike.Work); ok {
			do := w.Do
			w.Do = func() any { time.Sleep(s.takes); return do() }
			out[i] = w
		}
	}
	return out
}

// Six hundred devices come back in one second to a gateway that can let in
// fifty a second. They are asked for cookies and wait until it can serve them, and
// all get in within about the time that it takes: whatever was begun is finished,
// there is work in the pauses of those who repeat themselves, and none is up twice. A device that is up already rekeys
// in the midst of it.
func TestReconnectStorm(t *testing.T) {
	const (
		devices = 600
		takes   = 13333 * time.Microsecond // three for a handshake, two workers
	)
	run(t, options{
		pools: []string{"10.9.0.0/20"},
		config: func(c *Config) {
			c.IKE.HalfOpen = 10 * time.Second
			c.Gate = gate.Config{MaxHalfOpen: 2000, CookieAt: 1900, MaxHalfOpenPrefix: 2000, CookieAtPrefix: 1900, AnswersPerSecond: 10}
		},
		machine: func(cfg *ike.Config, spiI, spiR uint64) stepper {
			return slow{ike.NewResponder(cfg, spiI, spiR), takes}
		},
	}, func(w *world) {
		config := func(name string) *ike.Config {
			cfg := w.ca.ike(name, 24*time.Hour)
			cfg.Tries, cfg.HalfOpen = 8, 4*time.Minute
			return cfg
		}
		rekeys := config("first")
		rekeys.IKELife = ike.Lifetime{Rekey: 6 * time.Second}
		first := w.connectWith(rekeys)
		w.later(time.Second)
		began := time.Now()
		var all []*device
		for i := range devices {
			all = append(all, w.start(config(fmt.Sprint("device", i))))
			time.Sleep(time.Second / devices)
		}
		var curve []uint64
		for w.server.Stats().Established <= devices && time.Since(began) < 3*time.Minute {
			time.Sleep(time.Second)
			curve = append(curve, w.server.Stats().EstablishedTotal)
		}
		took := time.Since(began)
		synctest.Wait()
		st := w.server.Stats()
		t.Logf("all in after %v; up after each second: %v; %d cookies, %d waited already, %d too long, %d handshakes begun",
			took, curve, st.Drops[gate.ReasonCookieRequired.String()], st.Drops[ReasonWaitsAlready.String()],
			st.Drops[ReasonWaitedTooLong.String()], st.Initiated)
		for i, d := range all {
			w.want(fmt.Sprintf("device %d", i), d.state(), "up")
		}
		w.want("sessions", st.Established, devices+1)
		w.want("begun and not finished", st.Initiated, uint64(devices+1))
		if st.Drops[gate.ReasonCookieRequired.String()] == 0 || st.Drops[ReasonWaitsAlready.String()] == 0 {
			t.Errorf("nobody had to wait: %+v", st.Drops)
		}
		if n := uint64(took / (7 * time.Second)); st.RekeyedIKE < n {
			t.Errorf("a device that is up could rekey %d times in %v, want %d", st.RekeyedIKE, took, n)
		}
		w.want("the device that was up", first.state(), "up")
		// Twelve seconds of work, and no pauses.
		if took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Where there are so many half-open IKE SAs that newcomers have to bring a
// cookie, they have a third of the time.
func TestHurriedAboveTheCookieThreshold(t *testing.T) {
	run(t, options{scripted: true, config: func(c *Config) {
		c.IKE.HalfOpen = 30 * time.Second
		c.Gate.CookieAt = 2
	}}, func(w *world) {
		early := []*script{w.open(1), w.open(2)}
		w.net.send(initFrom(3, 3))
		w.settled()
		answers := w.net.sentTo(netip.MustParseAddr("10.1.0.3"))
		w.want("cookies that were asked for", len(answers), 1)
		w.net.send(withCookie(initFrom(3, 3), answers[0].Data))
		w.settled()
		late := w.lastScript()
		w.later(9 * time.Second)
		w.want("closed before its time", late.last() == ike.Close{Reason: ike.CloseHalfOpenTimeout}, false)
		w.later(2 * time.Second)
		w.want("last input", late.last(), ike.Input(ike.Close{Reason: ike.CloseHalfOpenTimeout}))
		for _, m := range early {
			w.want("closed early", m.last() == ike.Close{Reason: ike.CloseHalfOpenTimeout}, false)
		}
	})
}
