package lease

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
)

var own10 = Config{Pools: prefixes("10.0.0.0/24"), Neighbours: prefixes("10.1.0.0/24")}

func assigned(device string, s SessionID, want string, evict func(SessionID)) Request {
	a := netip.MustParseAddr(want)
	return Request{Device: device, Session: s, Family: familyOf(a), Want: a, Assigned: true, Evict: evict}
}

func nobody(t *testing.T) func(SessionID) {
	return func(s SessionID) { t.Errorf("session %d was to end", s) }
}

// An assigned address is granted wherever it lies, again after each reconnect,
// and over the address that the device had here before; an idle device that has
// it loses it.
func TestAssignedAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	r := open(t, path, own10)
	if a := mustAcquire(t, r, "phone", 1).Address.String(); a != "10.0.0.1" {
		t.Fatal(a)
	}
	r.End("phone", 1)
	mustAcquire(t, r, "idle", 2)
	r.End("idle", 2)
	for n, want := range []string{"10.0.0.2", "10.1.0.9", "10.0.0.200", "10.0.0.200"} {
		s := SessionID(10 + n)
		g, err := acquire(r, assigned("phone", s, want, nobody(t)))
		if err != nil || g.Address.String() != want || g.New != (n < 3) {
			t.Errorf("%s: %+v, %v", want, g, err)
		}
		r.End("phone", s)
	}
	if g, err := acquire(r, assigned("phone", 20, "10.2.0.1", nobody(t))); !errors.Is(err, ErrOutside) {
		t.Errorf("in no pool: %+v, %v", g, err)
	}
	// What is assigned stays the device's, and what it left is free again.
	if g := mustAcquire(t, r, "phone", 21); g.Address.String() != "10.0.0.200" {
		t.Errorf("without an assignment: %v", g)
	}
	if g := mustAcquire(t, r, "idle", 22); g.Address.String() == "10.0.0.200" || !g.New {
		t.Errorf("who lost its address: %+v", g)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path, own10)
	if g := mustAcquire(t, again, "phone", 30); g.Address.String() != "10.0.0.200" {
		t.Errorf("after a restart: %v", g)
	}
}

// Whoever is connected with an address that is assigned to another device has to
// go first; the other one waits for that end, also if a newer session of the
// device takes the place of the one that is to end.
func TestAssignedAddressInUse(t *testing.T) {
	r := open(t, "", own10)
	used := mustAcquire(t, r, "squatter", 1).Address.String()
	evicted := make(chan SessionID, 8)
	answered := make(chan Grant, 1)
	r.Acquire(assigned("phone", 2, used, func(s SessionID) { evicted <- s }), func(g Grant, err error) {
		if err != nil {
			t.Error(err)
		}
		answered <- g
	})
	if s := <-evicted; s != 1 {
		t.Fatalf("session %d is to end", s)
	}
	if g := mustAcquire(t, r, "squatter", 3); g.Displaced != 1 {
		t.Fatalf("%+v", g)
	}
	r.End("squatter", 1)
	if s := <-evicted; s != 3 {
		t.Fatalf("session %d is to end", s)
	}
	select {
	case g := <-answered:
		t.Fatalf("granted while it is in use: %+v", g)
	default:
	}
	r.End("squatter", 3)
	if g := <-answered; g.Address.String() != used || g.Displaced != 0 {
		t.Errorf("%+v", g)
	}
	if g := mustAcquire(t, r, "squatter", 4); g.Address.String() == used {
		t.Errorf("two have %s", used)
	}
	select {
	case s := <-evicted:
		t.Errorf("session %d was to end, too", s)
	default:
	}
}

// A device whose address changes while it is connected leaves the old one when
// that session has ended, not before.
func TestAssignmentChangesUnderASession(t *testing.T) {
	r := open(t, "", own10)
	if _, err := acquire(r, assigned("phone", 1, "10.0.0.50", nobody(t))); err != nil {
		t.Fatal(err)
	}
	evicted := make(chan SessionID, 1)
	answered := make(chan Grant, 1)
	r.Acquire(assigned("phone", 2, "10.1.0.50", func(s SessionID) { evicted <- s }), func(g Grant, err error) {
		if err != nil {
			t.Error(err)
		}
		answered <- g
	})
	if s := <-evicted; s != 1 {
		t.Fatalf("session %d is to end", s)
	}
	r.End("phone", 1)
	if g := <-answered; g.Address.String() != "10.1.0.50" || !g.New {
		t.Errorf("%+v", g)
	}
	if g, err := acquire(r, assigned("laptop", 3, "10.0.0.50", nobody(t))); err != nil || g.Address.String() != "10.0.0.50" {
		t.Errorf("the address that was left: %+v, %v", g, err)
	}
}

// A gateway without pools of its own grants what is assigned, and nothing else;
// what waits at the end is answered.
func TestOnlyAssigned(t *testing.T) {
	r := open(t, "", Config{Neighbours: prefixes("10.1.0.0/24", "fd00::/64")})
	if _, err := acquire(r, Request{Device: "phone", Session: 1}); !errors.Is(err, ErrNoPool) {
		t.Errorf("without an assignment: %v", err)
	}
	if g, err := acquire(r, assigned("phone", 1, "10.1.0.1", nobody(t))); err != nil || g.Address.String() != "10.1.0.1" {
		t.Errorf("%+v, %v", g, err)
	}
	six := assigned("phone", 1, "fd00::7", nobody(t))
	six.Additional = true
	if g, err := acquire(r, six); err != nil || g.Address.String() != "fd00::7" {
		t.Errorf("%+v, %v", g, err)
	}
	waiting := make(chan struct{})
	answered := make(chan error, 1)
	r.Acquire(assigned("laptop", 2, "10.1.0.1", func(SessionID) { close(waiting) }), func(_ Grant, err error) { answered <- err })
	<-waiting
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; !errors.Is(err, ErrClosed) {
		t.Errorf("at the end: %v", err)
	}
	for _, bad := range []Request{
		{Device: "phone", Session: 1, Assigned: true},
		{Device: "phone", Session: 1, Assigned: true, Want: netip.MustParseAddr("fd00::1"), Evict: nobody(t)},
	} {
		if err := bad.check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
