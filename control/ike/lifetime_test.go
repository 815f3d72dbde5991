package ike

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// A peer is told when to authenticate again: half an hour to an hour before
// its admission ends, and not all at the same time. One whose admission ends
// soon, or never, is told nothing.
func TestAuthLifetime(t *testing.T) {
	told := func(until time.Duration, seed byte) (time.Duration, bool) {
		w := newWorld(t, options{gw: func(c *Config) { c.Rand = newRand(seed) }})
		admit := w.gw.admit
		w.gw.admit = func(a AskAdmit) Input {
			in := admit(a).(Admitted)
			if until != 0 {
				in.Until = w.now.Add(until)
			}
			return in
		}
		var lifetime time.Duration
		var found bool
		w.check = func(s *side, o Output) {
			send, ok := o.(Send)
			if !ok || s != w.gw {
				return
			}
			msg, err := ikewire.Parse(send.Data)
			if err != nil || msg.Exchange != ikewire.IKEAuth {
				return
			}
			inner, err := w.dev.m.open.Open(send.Data, msg)
			if err != nil {
				t.Fatal(err)
			}
			if n := ikewire.FindNotify(inner, ikewire.NotifyAuthLifetime); n != nil {
				lifetime, found = time.Duration(binary.BigEndian.Uint32(n.Data))*time.Second, true
			}
		}
		w.connect()
		if w.gw.m.state != stateEstablished || w.dev.m.state != stateEstablished {
			t.Fatalf("not up:\n%s", w.log.String())
		}
		return lifetime, found
	}
	seen := make(map[time.Duration]bool)
	for seed := range byte(8) {
		got, ok := told(24*time.Hour, seed)
		if !ok || got < 23*time.Hour-time.Second || got > 23*time.Hour+30*time.Minute {
			t.Errorf("told %v %v, want 23 h to 23 h 30 m", got, ok)
		}
		seen[got] = true
	}
	if len(seen) < 4 {
		t.Errorf("eight peers were told %d times only", len(seen))
	}
	for _, until := range []time.Duration{0, time.Hour, -time.Hour} {
		if got, ok := told(until, 1); ok {
			t.Errorf("told %v where the admission ends in %v", got, until)
		}
	}
	if got, _ := told(200*365*24*time.Hour, 1); got != 4294967295*time.Second {
		t.Errorf("told %v, want as much as fits", got)
	}
}

// A fleet that came back in one second, as after a power cut, is not rekeyed in
// one second, nor does it end in one: the busiest second of the day is a few
// times the average.
func TestLifetimesMakeNoBurst(t *testing.T) {
	const fleet, day = 100_000, 24 * 60 * 60
	m := NewResponder(&Config{Rand: newRand(7)}, 1, 2)
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	busiest := func(seconds []int) (most, sum int) {
		for _, n := range seconds {
			most, sum = max(most, n), sum+n
		}
		return most, sum
	}
	for name, l := range map[string]Lifetime{
		"Child SA": {Rekey: 4 * time.Hour, Jitter: 30 * time.Minute, Hard: 25 * time.Hour},
		"IKE SA":   {Rekey: 8 * time.Hour, Jitter: time.Hour, Hard: 25 * time.Hour},
	} {
		rekeyed, ended := make([]int, day), make([]int, 2*day)
		for range fleet {
			at, hard := m.start(began, l.first())
			ended[int(hard.Sub(began).Seconds())]++
			for at.Sub(began) < day*time.Second {
				rekeyed[int(at.Sub(began).Seconds())]++
				at, _ = m.start(at, l)
			}
		}
		most, sum := busiest(rekeyed)
		average := float64(sum) / day
		t.Logf("%s: %.1f rekeyed a second on average, %d in the busiest", name, average, most)
		if float64(most) > 8*average {
			t.Errorf("%s: %d rekeyed in one second", name, most)
		}
		if most, _ = busiest(ended); most > fleet/500 {
			t.Errorf("%s: %d ended in one second", name, most)
		}
	}
}

// BenchmarkLiveness is a liveness check of the gateway: its request, the
// device's answer, and what the gateway makes of it.
func BenchmarkLiveness(b *testing.B) {
	w := newWorld(&testing.T{}, options{})
	w.connect()
	gw, dev := w.gw.m, w.dev.m
	sent := func(out []Output) Message {
		for _, o := range out {
			if s, ok := o.(Send); ok {
				return Message{Data: s.Data, Local: s.Remote, Remote: s.Local, Marker: s.Marker}
			}
		}
		b.Fatal("nothing was sent")
		return Message{}
	}
	b.ReportAllocs()
	for b.Loop() {
		answer := sent(dev.Step(w.now, sent(gw.Step(w.now, Probe{}))))
		if out := gw.Step(w.now, answer); len(out) != 0 {
			b.Fatalf("%+v", out)
		}
	}
}
