package ike

import (
	"encoding/binary"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Lifetimes (RFC 7296 section 2.8): each side has its own and nobody
// negotiates them. Rekeying starts early by a random part, so that a fleet
// that connected at once doesn't rekey at once.

// Lifetime of an SA by time. Zero durations mean no limit.
type Lifetime struct {
	// Rekey is when it is rekeyed at the latest; up to Jitter earlier.
	Rekey  time.Duration
	Jitter time.Duration
	// Hard is when it ends if it could not be rekeyed.
	Hard time.Duration
}

// retryAfter is the wait after TEMPORARY_FAILURE (RFC 7296 section 2.25).
const retryAfter = 5 * time.Second

// asleep is how long nothing came from a peer that is then not rekeyed; it is
// looked at again after as long.
const asleep = 5 * time.Minute

// start draws when an SA that begins now is rekeyed and ends.
func (m *Machine) start(now time.Time, l Lifetime) (rekey, hard time.Time) {
	if l.Rekey > 0 {
		rekey = now.Add(l.Rekey - m.jitter(l.Jitter))
	}
	if l.Hard > 0 {
		hard = now.Add(l.Hard)
	}
	return rekey, hard
}

// jitter is a random duration below limit. Without randomness it is zero: the
// exchange that follows will say so.
func (m *Machine) jitter(limit time.Duration) time.Duration {
	var b [8]byte
	if limit <= 0 {
		return 0
	}
	if _, err := m.cfg.Rand.Read(b[:]); err != nil {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(limit))
}

func (m *Machine) startLife(now time.Time, c *child) {
	c.rekeyAt, c.expires = m.start(now, m.cfg.ChildLife)
	if m.trait().PeerRekeysChildren {
		c.rekeyAt = time.Time{}
	}
}

// childDeadline is the next time at which a Child SA wants something.
func (m *Machine) childDeadline() time.Time {
	var d time.Time
	if m.state != stateEstablished {
		return d
	}
	for _, c := range m.children {
		t := c.expires
		if c.state == childUp && !c.rekeyAt.IsZero() {
			t = c.rekeyAt
		}
		if !t.IsZero() && c.state != childDeleting && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	return d
}

func due(now, t time.Time) bool { return !t.IsZero() && !now.Before(t) }

// lifetimes starts what has come of age. A device that sleeps keeps its SAs to
// their hard lifetimes: a request would find nobody and end the IKE SA.
func (m *Machine) lifetimes(now, heard time.Time) {
	sleeps := !heard.IsZero() && now.Sub(heard) >= asleep
	for _, c := range append([]*child(nil), m.children...) {
		switch {
		case c.state != childDeleting && due(now, c.expires):
			m.childExpired(now, c)
		case c.state == childUp && due(now, c.rekeyAt) && sleeps:
			c.rekeyAt = now.Add(asleep)
		case c.state == childUp && due(now, c.rekeyAt):
			m.rekeyChild(now, c)
		}
	}
	if m.state == stateEstablished && due(now, m.rekey.due) {
		if sleeps {
			m.rekey.due = now.Add(asleep)
			return
		}
		m.rekey.due = time.Time{}
		m.rekeyIKE(now)
	}
}

// childExpired: it could not be rekeyed in time. An IKE SA that is left
// without Child SA is of no use.
func (m *Machine) childExpired(now time.Time, c *child) {
	if len(m.children) == 1 {
		m.close(now, CloseExpired)
		return
	}
	m.deleteChild(now, c)
}

// rekeyWanted is the owner's order, after a soft limit.
func (m *Machine) rekeyWanted(now time.Time, inbound dataplane.SPI) {
	if m.state != stateEstablished {
		return
	}
	if inbound == 0 {
		m.rekeyIKE(now)
		return
	}
	for _, c := range m.children {
		if c.inbound == inbound && c.state == childUp {
			m.rekeyChild(now, c)
			return
		}
	}
}
