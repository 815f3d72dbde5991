package ike

import (
	"strings"
	"testing"
	"time"
)

// handover has the device begin to rekey the IKE SA. The gateway has made the
// new one, but its answer is lost.
func handover(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, options{})
	w.connect()
	w.log.Reset()
	w.dev.m.rekey.due = w.now
	w.step(w.dev, Tick{})
	w.lose = func(o Send) bool { return o.Local.Addr() == gwAddr }
	w.deliver()
	if len(w.gw.older) != 1 || len(w.dev.older) != 0 {
		t.Fatalf("the gateway has %d old IKE SAs, the device %d", len(w.gw.older), len(w.dev.older))
	}
	return w
}

// The gateway opens no request on an IKE SA that the device may not have: its
// tries would be spent on nobody.
func TestNoRequestBeforeThePeerHasTheIKESA(t *testing.T) {
	w := handover(t)
	w.step(w.gw, Rekey{Inbound: w.gw.m.children[0].inbound})
	w.pass(5 * time.Second)
	if r := w.gw.m.request; r.open || r.tries != 0 {
		t.Errorf("a request is open after %d tries\n%s", r.tries, w.log.String())
	}
	w.lose = nil
	w.pass(time.Minute)
	w.one("after the answer came")
	if w.gw.m.children[0].inbound == 0xa001 || w.gw.m.request.claimed {
		t.Errorf("not rekeyed when the device was heard\n%s", w.log.String())
	}
}

// The device never has the new IKE SA, and never says so: the gateway finds out.
func TestPeerNeverHasTheIKESA(t *testing.T) {
	w := handover(t)
	w.dev.done = true
	w.pass(supersededFor + time.Second)
	w.step(w.gw, Probe{})
	w.pass(5 * time.Minute)
	if log := w.log.String(); !w.gw.done || !strings.Contains(log, "gw    CLOSED  "+string(CloseTimeout)+" no answer to INFORMATIONAL") {
		t.Errorf("the gateway keeps the device\n%s", log)
	}
}

// A session that is closed meanwhile is closed at once.
func TestCloseBeforeThePeerHasTheIKESA(t *testing.T) {
	w := handover(t)
	next := w.gw.m
	w.step(w.gw, Close{Reason: CloseKilled})
	if !next.request.open || next.state != stateDeleting {
		t.Errorf("no DELETE\n%s", w.log.String())
	}
}

// A Child SA comes of age while both rekey the IKE SA, and the gateway's part of
// that never arrives: the Child SA is rekeyed on the one that the device made.
func TestChildDueWhileIKEIsRekeyed(t *testing.T) {
	w := newWorld(t, options{gw: func(c *Config) { c.ChildLife = Lifetime{Rekey: time.Hour, Hard: 2 * time.Hour} }})
	w.connect()
	w.log.Reset()
	w.now = w.gw.m.children[0].rekeyAt
	w.drop[w.sent+1] = true
	w.provoke(w.gw, func(m *Machine) { m.rekeyIKE(w.now) })
	w.dev.m.rekey.due = w.now
	w.step(w.dev, Tick{})
	w.deliverOne()
	w.step(w.gw, Tick{})
	if w.gw.m.children[0].state != childRekeying || w.gw.m.rekey.rival == nil {
		t.Fatalf("Child SA in state %d\n%s", w.gw.m.children[0].state, w.log.String())
	}
	w.deliver()
	w.pass(time.Minute)
	w.one("due")
	if w.gw.m.children[0].inbound == 0xa001 {
		t.Errorf("not rekeyed\n%s", w.log.String())
	}
}
