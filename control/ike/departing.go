package ike

import (
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// departing is the inbound SA of a replaced Child SA that both sides deleted. It
// is taken out of the data plane a moment later: what the peer sent before it
// agreed may still be on its way, and nobody else has a use for the SPI.
type departing struct {
	inbound dataplane.SPI
	at      time.Time
}

// passage is how long a packet may be on its way.
const passage = time.Second

// depart drops a Child SA that was replaced. One without a successor ends at
// once.
func (m *Machine) depart(now time.Time, c *child) {
	if m.byInbound(c.inbound) != c {
		return
	}
	if len(m.children) == 1 || m.state != stateEstablished || due(now, c.expires) {
		m.drop(c)
		return
	}
	m.forgetChild(c)
	m.emit(ChildDown{Inbound: c.inbound})
	m.departing = append(m.departing, departing{c.inbound, now.Add(passage)})
}

// departed takes out those whose time has come, all of them with the zero time.
func (m *Machine) departed(now time.Time) {
	for len(m.departing) > 0 && (now.IsZero() || due(now, m.departing[0].at)) {
		m.emit(Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: m.departing[0].inbound}}})
		m.departing = m.departing[1:]
	}
	if len(m.departing) == 0 {
		m.departing = nil
	}
}

// departure is when the next one leaves.
func (m *Machine) departure() time.Time {
	if len(m.departing) == 0 {
		return time.Time{}
	}
	return m.departing[0].at
}
