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
