package push

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestWhereabouts follows a phone and a liar.
func TestWhereabouts(t *testing.T) {
	w := NewWhereabouts()
	started, moved, ended := gcm.SessionStarted, gcm.SessionMoved, gcm.SessionEnded
	for n, step := range []struct {
		gateway string
		kind    gcm.EventKind
		session string
		at      time.Duration
		want    string
	}{
		{"one", started, "a", 0, "one/a"},
		{"two", ended, "a", 1, "one/a"},
		{"two", ended, "", 2, "one/a"},
		{"one", moved, "a", 3, "one/a"},
		{"two", started, "b", 4, "one/a two/b"},
		{"one", ended, "a", 5, "two/b"},
		// The end of the former session is told after the next one's start.
		{"two", started, "c", 6, "two/c"},
		{"two", ended, "b", 7, "two/c"},
		// What was told late doesn't come first, and a clock that runs ahead
		// does not for long.
		{"one", started, "d", -9, "one/d two/c"},
		{"three", started, "e", 1000, "one/d two/c three/e"},
		{"one", started, "f", 13, "two/c three/e one/f"},
		{"two", gcm.DeviceRefused, "c", 14, "two/c three/e one/f"},
		{"three", ended, "e", 15, "two/c one/f"},
	} {
		now := noon.Add(time.Duration(n) * time.Second)
		w.Tell(now, step.gateway, gcm.Event{At: noon.Add(step.at * time.Second), Kind: step.kind, Device: "phone", Session: step.session,
			Peer: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n))})
		var got []string
		for _, p := range w.Of("phone") {
			got = append(got, p.Gateway+"/"+p.Session)
		}
		if strings.Join(got, " ") != step.want {
			t.Fatalf("step %d: %q, want %q", n, got, step.want)
		}
		if step.kind == moved && w.Of("phone")[0].Peer.Port() != uint16(n) {
			t.Errorf("step %d: it is still at %v", n, w.Of("phone")[0].Peer)
		}
	}
	w.Tell(noon, "one", gcm.Event{Kind: gcm.Dropped, Count: 5})
	if got := len(w.Of("phone")); got != 2 {
		t.Errorf("%d places after some events were lost", got)
	}
	w.Tell(noon, "one", gcm.Event{Kind: gcm.Dropped, Reason: gcm.ReasonRestart})
	w.Forget("two")
	if got := w.Of("phone"); len(got) != 0 || len(w.devices) != 0 {
		t.Errorf("after the gateways went: %+v", got)
	}
	for n := range 3 * maxPlaces {
		w.Tell(noon, fmt.Sprint("liar-", n), gcm.Event{Kind: started, Device: "phone", Session: "a"})
	}
	if got := len(w.Of("phone")); got != maxPlaces {
		t.Errorf("%d places, at most %d", got, maxPlaces)
	}
}
