package session

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/ike"
)

// members is a roll that a test changes.
type members struct {
	mu      sync.Mutex
	devices map[string]admit.Member
	revoked map[string]bool // serials
	asked   func(device string)
}

func (m *members) Device(name string) (admit.Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	member, known := m.devices[name]
	if asked := m.asked; asked != nil {
		m.asked = nil
		defer asked(name)
	}
	return member, known
}

func (m *members) Revoked(_ [sha256.Size]byte, serial []byte) (int, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 1, m.revoked[string(serial)]
}

func (m *members) change(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
}

func (w *world) enroll(m *members) {
	w.t.Helper()
	p, err := admit.New(admit.Config{Roots: []*x509.Certificate{w.ca.cert}, Group: "quarantine", Roll: m})
	if err != nil {
		w.t.Fatal(err)
	}
	w.reload(p)
}

// What a roll says of one device reaches that device's session and no other one,
// at once: another group, a certificate that is revoked, a device that is barred
// or gone.
func TestRecheck(t *testing.T) {
	run(t, options{}, func(w *world) {
		m := &members{devices: map[string]admit.Member{"phone": {Group: "staff"}, "laptop": {Group: "staff"}, "tablet": {}}, revoked: map[string]bool{}}
		w.enroll(m)
		serials := map[string]string{}
		devices := map[string]*device{}
		for _, name := range []string{"phone", "laptop", "tablet", "stranger"} {
			devices[name] = w.connect(name)
			serials[name] = string([]byte{byte(w.ca.n)})
		}
		states := func(step string, want ...string) {
			t.Helper()
			for i, name := range []string{"phone", "laptop", "tablet", "stranger"} {
				got := devices[name].state()
				if got == "up" {
					got = w.group(devices[name])
				}
				w.want(step+": "+name, got, want[i])
			}
		}
		killed := "closed: " + string(ike.ClosePeerDeleted)
		states("at first", "staff", "staff", "", "quarantine")

		m.change(func() {
			m.devices["phone"], m.devices["laptop"] = admit.Member{Group: "field"}, admit.Member{Group: "field"}
		})
		w.server.Recheck(Concerned{Devices: []string{"phone", "nobody"}})
		w.settled()
		states("another group, told of one", "field", "staff", "", "quarantine")

		m.change(func() { delete(m.devices, "laptop"); m.devices["stranger"] = admit.Member{Group: "staff"} })
		w.server.Recheck(Concerned{Devices: []string{"laptop", "stranger"}})
		w.settled()
		states("off the roll, and on it", "field", "quarantine", "", "staff")

		m.change(func() { m.revoked[serials["laptop"]] = true })
		w.server.Recheck(Concerned{Serials: []string{serials["laptop"], "none"}})
		w.settled()
		states("revoked", "field", killed, "", "staff")
		w.want("revoked", w.server.Stats().Closed[ike.CloseRevoked], uint64(1))

		m.change(func() { m.devices["tablet"] = admit.Member{Barred: true} })
		w.server.RecheckAll()
		w.settled()
		states("barred", "field", killed, killed, "staff")
		w.want("comes back", w.connect("tablet").state() == "up", false)
	})
}

// A device whose admission was decided before the roll changed, and delivered
// afterwards, doesn't slip through; one that is in another group now gets that.
func TestRecheckDuringADecision(t *testing.T) {
	run(t, options{}, func(w *world) {
		m := &members{devices: map[string]admit.Member{"phone": {Group: "staff"}, "laptop": {Group: "staff"}}}
		w.enroll(m)
		m.change(func() {
			m.asked = func(name string) {
				m.devices[name] = admit.Member{Barred: true}
				w.server.Recheck(Concerned{Devices: []string{name}})
			}
		})
		if d := w.connect("phone"); d.state() == "up" {
			t.Error("a device is up that was barred during its handshake")
		}
		m.change(func() {
			m.asked = func(name string) {
				m.devices[name] = admit.Member{Group: "field"}
				w.server.Recheck(Concerned{Devices: []string{name}})
			}
		})
		w.want("group", w.group(w.connect("laptop")), "field")
	})
}

// An address that is assigned to a device is its own here: whoever has it goes,
// also if its peer is gone, and a session with another address makes room for
// the next one.
func TestAssignedAddresses(t *testing.T) {
	var mu sync.Mutex
	var told []string
	note := func(n Notice) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(n.Kind, " ", n.Device, " ", n.Addresses, " ", n.Reason))
	}
	run(t, options{pools: []string{"10.9.0.0/24"}, config: func(c *Config) { c.Notices = note }}, func(w *world) {
		addr := netip.MustParseAddr
		m := &members{devices: map[string]admit.Member{"phone": {}, "laptop": {}}}
		w.enroll(m)
		squatter := w.connect("laptop")
		used := squatter.virtualIP()
		squatter.vanish()
		m.change(func() { m.devices["phone"] = admit.Member{Addresses: []netip.Addr{used}} })
		phone := w.connect("phone")
		w.want("phone", phone.state(), "up")
		w.want("its address", phone.virtualIP(), used)
		w.later(time.Minute)
		w.want("sessions", w.only().Device, "phone")
		w.want("closed", w.server.Stats().Closed[ike.CloseReaddressed], uint64(1))

		m.change(func() { m.devices["phone"] = admit.Member{Addresses: []netip.Addr{addr("10.9.0.77"), addr("fd00::1")}} })
		w.server.Recheck(Concerned{Devices: []string{"phone"}})
		w.settled()
		w.want("with the old address", phone.state() == "up", false)
		again := w.connect("phone")
		w.want("its new address", again.virtualIP(), addr("10.9.0.77"))
		w.server.Recheck(Concerned{Devices: []string{"phone"}})
		w.settled()
		w.want("nothing has changed", again.state(), "up")
		w.want("who had to go comes back", w.connect("laptop").virtualIP() != again.virtualIP(), true)
		m.change(func() { m.devices["laptop"] = admit.Member{Barred: true} })
		w.server.Recheck(Concerned{Devices: []string{"laptop"}})
		w.settled()
		mu.Lock()
		defer mu.Unlock()
		w.want("notices", fmt.Sprintf("%q", told), fmt.Sprintf("%q", []string{
			"assigned laptop [10.9.0.1] ", "assigned phone [10.9.0.1] ", "assigned phone [10.9.0.77] ", "assigned laptop [10.9.0.2] ",
			"refused laptop [] barred",
		}))
	})
}

// The index of a shard is what a look at all sessions would find.
func TestAdmittedIndex(t *testing.T) {
	x := newAdmittedIndex()
	in := map[*session]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	var all []*session
	for n := range 200 {
		s := &session{device: fmt.Sprint("d", n%40)}
		if n%5 > 0 {
			var path []admit.Link
			for i := range n % 5 {
				path = append(path, admit.Link{Serial: []byte{byte(i), byte(n % 7)}})
			}
			s.standing = newStanding(admit.Standing{Path: path}, time.Time{}, nil)
		}
		all = append(all, s)
	}
	for range 5000 {
		s := all[r.IntN(len(all))]
		if r.IntN(2) == 0 {
			x.add(s)
			in[s] = true
		} else {
			x.remove(s)
			delete(in, s)
		}
	}
	devices, serials, issuers := map[string]int{}, map[string]int{}, map[string]int{}
	for s := range in {
		devices[s.device]++
		if s.standing.known() {
			path := s.standing.full().Path
			serials[string(path[0].Serial)]++
			for _, l := range path[1:] {
				issuers[string(l.Serial)]++
			}
		}
	}
	for device, s := range x.devices {
		for ; s != nil; s = s.indexed.sameDevice {
			devices[device]--
		}
	}
	for serial, s := range x.serials {
		for ; s != nil; s = s.indexed.sameSerial {
			serials[serial]--
		}
	}
	for serial, n := range x.issuers {
		issuers[serial] -= n
	}
	for _, counts := range []map[string]int{devices, serials, issuers} {
		for key, n := range counts {
			if n != 0 {
				t.Errorf("%q: %d sessions are not as they should be", key, n)
			}
		}
	}
	for s := range in {
		x.remove(s)
	}
	if len(x.devices)+len(x.serials)+len(x.issuers) > 0 {
		t.Errorf("left: %d, %d, %d", len(x.devices), len(x.serials), len(x.issuers))
	}
}
