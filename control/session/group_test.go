package session

import (
	"crypto/x509"
	"testing"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/dataplane"
)

// groups is a policy that knows devices by name.
func (a *authority) groups(unknown string, groups ...admit.Group) *admit.Policy {
	a.t.Helper()
	p, err := admit.New(admit.Config{Roots: []*x509.Certificate{a.cert}, Groups: groups, Group: unknown})
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// group of the Child SA that carries what goes to the device.
func (w *world) group(d *device) string {
	w.t.Helper()
	spi, _ := w.net.Outbound(d.virtualIP())
	child, ok := w.net.Child(spi)
	if !ok {
		w.t.Fatalf("no Child SA for %v", d.virtualIP())
	}
	return child.Child.Group
}

// A device's Child SA is installed with its group; a reload that changes the
// group changes it there and in what is told of the session, without an end; and
// Child SAs to come are of the new one.
func TestReloadChangesTheGroup(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.reload(w.ca.groups("quarantine", admit.Group{Name: "staff", Devices: []string{"laptop"}}))
		phone, laptop := w.connect("phone"), w.connect("laptop")
		w.want("phone", w.group(phone), "quarantine")
		w.want("laptop", w.group(laptop), "staff")
		w.reload(w.ca.groups("quarantine", admit.Group{Name: "staff", Devices: []string{"laptop", "phone"}}))
		w.settled()
		w.want("phone", w.group(phone), "staff")
		w.want("phone", phone.state(), "up")
		w.wantLog(`msg="session is in another group" device=phone from=quarantine group=staff`)
		for _, i := range w.server.Sessions() {
			w.want(i.Device, i.Group, "staff")
			w.net.Tell(dataplane.LimitReached{Inbound: i.Inbound})
		}
		w.settled()
		for _, i := range w.server.Sessions() {
			child, _ := w.net.Child(i.Inbound)
			w.want("after rekeying "+i.Device, child.Child.Group, "staff")
		}
	})
}

// A Child SA that was being installed with the old group when the reload came
// gets the new one.
func TestReloadDuringInstall(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.reload(w.ca.groups("quarantine"))
		hold := make(chan struct{})
		w.net.set(func() { w.net.hold = hold })
		d := w.start(w.ca.ike("phone", 1<<40))
		w.settled()
		w.reload(w.ca.groups("staff"))
		w.settled()
		w.net.set(func() { w.net.hold = nil })
		close(hold)
		w.settled()
		w.want("state", d.state(), "up")
		w.want("group", w.group(d), "staff")
	})
}

// A device that can't be put into its new group doesn't go on in the old one; a
// group without a list in force is a reason to refuse it.
func TestGroupThatIsNotInForce(t *testing.T) {
	run(t, options{}, func(w *world) {
		w.reload(w.ca.groups("staff"))
		d := w.connect("phone")
		w.net.set(func() { w.net.groupErr = dataplane.ErrGroup })
		w.reload(w.ca.groups("quarantine"))
		w.settled()
		if d.state() == "up" {
			t.Error("the session goes on in its old group")
		}
		w.wantLog("group has no access list in force")
		w.net.set(func() { w.net.applyErr = dataplane.ErrGroup })
		other := w.connect("laptop")
		if other.state() == "up" {
			t.Error("a device came in whose group has no list in force")
		}
	})
}
