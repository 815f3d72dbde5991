package session

import (
	"testing"

	"github.com/roamgate/roamgate/control/ike"
)

// Those who are meant go to the other gateway and delete their IKE SA; all
// others stay, and so do orders for sessions that are gone.
func TestRedirect(t *testing.T) {
	run(t, options{}, func(w *world) {
		one, two := w.connect("one"), w.connect("two")
		is := func(name string) func(Info) bool { return func(i Info) bool { return i.Device == name } }
		w.want("redirected", w.server.Redirect(is("one"), "vpn2.example.com"), 1)
		w.settled()
		w.want("one", one.state(), "closed: "+string(ike.CloseRedirected))
		w.want("two", two.state(), "up")
		w.want("sessions", len(w.server.Sessions()), 1)
		w.want("redirected again", w.server.Redirect(is("one"), "vpn2.example.com"), 0)
	})
}
