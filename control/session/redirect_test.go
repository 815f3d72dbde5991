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

// A device that is named goes on to the other gateway when it has proven who it
// is, and has no lease here; others come in.
func TestRedirectedByName(t *testing.T) {
	config := func(c *Config) { c.Redirect = RedirectConfig{To: "vpn2.example.com", Devices: []string{"one"}} }
	run(t, options{config: config}, func(w *world) {
		w.want("one", w.connect("one").state(), "closed: "+string(ike.CloseRedirected))
		w.want("two", w.connect("two").state(), "up")
		w.want("redirected", w.server.Stats().Closed[ike.CloseRedirected], uint64(1))
		w.want("leases", w.leases.Stats().Assigned, 1)
	})
}
