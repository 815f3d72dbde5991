package ike

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Lifetimes (RFC 7296 section 2.8): each side has its own and nobody
// negotiates them. Rekeying starts early by a random part, so that a fleet
// that connected at once doesn't rekey at once.

// Lifetime of an SA by time. Zero durations mean no limit.
type Lifetime struct {
	// Rekey is when it is rekeyed at the latest; up to Jitter earlier, those of a
	// new connection up to half of Rekey, unless Jitter is zero.
	Rekey  time.Duration
	Jitter time.Duration
	// Hard is when it ends if it could not be rekeyed; up to Jitter, but no more
	// than a 24th, later.
	Hard time.Duration
}

// retryAfter is the wait after TEMPORARY_FAILURE (RFC 7296 section 2.25).
const retryAfter = 5 * time.Second

// asleep is how long nothing came from a peer that is then not rekeyed; it is
// looked at again after as long.
const asleep = 5 * time.Minute

// hardSpread is the part of a hard lifetime by which it is made longer at most.
const hardSpread = 24

// start draws when an SA that begins now is rekeyed and ends.
func (m *Machine) start(now time.Time, l Lifetime) (rekey, hard time.Time) {
	if l.Rekey > 0 {
		rekey = now.Add(l.Rekey - m.jitter(l.Jitter))
	}
	if l.Hard > 0 {
		hard = now.Add(l.Hard + m.jitter(min(l.Jitter, l.Hard/hardSpread)))
	}
	return rekey, hard
}

// first is the lifetime of what begins with a connection. It spreads more: a
// fleet that came back at once is not to be rekeyed at once.
func (l Lifetime) first() Lifetime {
	if l.Jitter > 0 {
		l.Jitter = max(l.Jitter, l.Rekey/2)
	}
	return l
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

// Peers are told to authenticate again before their admission ends (RFC 4478):
// those that know how make a new IKE SA beside this one, with whatever
// certificate they have then, and nothing is interrupted. Others are closed when
// the time has come.
const (
	// reauthMargin is how long before the end they are told to be done, at the
	// latest, and by how much that is spread.
	reauthMargin = 30 * time.Minute
	// minReauth is the shortest time that is told. A client whose certificate
	// ends sooner has no other yet, and some begin again at once when they are
	// given less than they plan for, and again.
	minReauth = 2 * time.Hour
)

// authLifetime is the notification, in seconds, if there is anything to tell.
func (m *Machine) authLifetime(now time.Time) []ikewire.Payload {
	until := m.handshake.admitted.Until
	if until.IsZero() {
		return nil
	}
	left := until.Sub(now) - reauthMargin - m.jitter(reauthMargin)
	if left < minReauth {
		return nil
	}
	seconds := min(uint64(left/time.Second), math.MaxUint32)
	return []ikewire.Payload{notify(ikewire.NotifyAuthLifetime, binary.BigEndian.AppendUint32(nil, uint32(seconds)))}
}

func (m *Machine) startLife(now time.Time, c *child) {
	l := m.cfg.ChildLife
	if m.state != stateEstablished {
		l = l.first()
	}
	c.rekeyAt, c.expires = m.start(now, l)
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
