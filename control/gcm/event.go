package gcm

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Paths on a gateway's management port. The manager is the client of all of
// them.
const (
	// PathState answers GET with a State.
	PathState = "/gcm/v1/state"
	// PathSections, with the section's name behind it, takes PUT of a snapshot
	// and PATCH of a delta, and answers 200 with a SectionState when it is on
	// disk, or else with a Refusal.
	PathSections = "/gcm/v1/sections/"
	// PathEvents answers GET with events, a JSON object a line, those after the
	// cursor in the query "after" first and then as they happen, until the
	// manager goes. It is how a gateway speaks to a manager. A cursor that the
	// gateway hasn't reached, because it lost its file, is answered with 409.
	PathEvents = "/gcm/v1/events"
	// PathIdentity answers GET with a certificate request in DER and takes PUT
	// of the certificate with its chain in PEM.
	PathIdentity = "/gcm/v1/identity"
	// PathSessions answers GET with the sessions that are up, a Session a line,
	// those of one device with the query "device". DELETE with a device's name
	// behind it ends that device's sessions, with the query "session" the one of
	// that ID and no newer one. 204, or 404 if there was none.
	PathSessions = "/gcm/v1/sessions/"
	// PathAlerts, with a device's name behind it and the manager's name for the
	// alert in the query "alert", takes POST of an opaque notification for the
	// device, 1 to 1,024 octets. 202: the result is an event. 404: the device has
	// no session here; 503: too many are under way; 501: this gateway sends none.
	PathAlerts = "/gcm/v1/alerts/"
	// PathDrain takes POST of a Drain: 204, or 409 while the gateway ends.
	PathDrain = "/gcm/v1/drain"
	// PathReload takes POST without a body: the gateway reads its own
	// configuration file again, and answers with a Reloaded.
	PathReload = "/gcm/v1/reload"
)

// EventKind says what happened. Its text is part of the protocol.
type EventKind string

// Kinds of events.
const (
	SessionStarted EventKind = "session_started"
	SessionMoved   EventKind = "session_moved"
	SessionEnded   EventKind = "session_ended"
	// LeaseAssigned: the gateway has given a device an address that it didn't
	// have here before.
	LeaseAssigned EventKind = "lease_assigned"
	// DeviceRefused: somebody with a device's certificate was turned away.
	// Whether they held its key isn't known. Of what comes too fast there is a
	// part.
	DeviceRefused EventKind = "device_refused"
	AlertResult   EventKind = "alert_result"
	// Counters of the gateway since its start, in Sums, once a minute.
	Counters EventKind = "counters"
	// Dropped stands where events are missing: the buffer was full. Count says
	// how many, and After is the cursor of the last one before them.
	Dropped EventKind = "dropped"
)

// ReasonRestart of a Dropped event: the gateway was started anew. Its Count is
// zero, because nobody knows how many were lost with the former run, and its
// sessions went with it, too.
const ReasonRestart = "restart"

// Limits of events.
const (
	// MaxLine is the longest event or session in octets.
	MaxLine = 8 << 10
	// maxText of a string in an event.
	maxText = 256
	// maxZone of an outer address: the name of an interface.
	maxZone = 15
)

// Event of a gateway. What doesn't fit its kind is left out.
type Event struct {
	// Cursor counts events of this gateway; it never goes back.
	Cursor uint64    `json:"cursor"`
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Device string    `json:"device,omitempty"`
	// Session is hexadecimal.
	Session   string       `json:"session,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Peer is the outer address and port.
	Peer   netip.AddrPort `json:"peer,omitzero"`
	Reason string         `json:"reason,omitempty"`
	// Alert is the manager's name for one.
	Alert string            `json:"alert,omitempty"`
	Count uint64            `json:"count,omitempty"`
	After uint64            `json:"after,omitempty"`
	Sums  map[string]uint64 `json:"sums,omitempty"`
}

// Append writes an event as a line.
func (e Event) Append(b []byte) ([]byte, error) { return appendLine(b, e) }

// EventReader reads events that a gateway sent. It believes a gateway nothing
// but what it says of itself: whether a device is its own to speak of is for
// the caller to judge.
type EventReader struct {
	lines *bufio.Scanner
	last  uint64
}

// NewEventReader expects events after a cursor.
func NewEventReader(r io.Reader, after uint64) *EventReader {
	return &EventReader{newLines(r), after}
}

// Next event; io.EOF at the end. Errors: ErrMalformed, also for cursors that
// don't ascend, and those of the reader.
func (r *EventReader) Next() (Event, error) {
	var e Event
	if err := readLine(r.lines, &e); err != nil {
		return Event{}, err
	}
	if err := e.Check(); err != nil {
		return Event{}, err
	}
	if e.Cursor <= r.last {
		return Event{}, fmt.Errorf("%w: cursor %d after %d", ErrMalformed, e.Cursor, r.last)
	}
	r.last = e.Cursor
	return e, nil
}

// Check the bounds of each field. Error: ErrMalformed.
func (e *Event) Check() error {
	for _, s := range []string{string(e.Kind), e.Session, e.Reason, e.Alert} {
		if len(s) > maxText {
			return fmt.Errorf("%w: a text of %d octets in an event", ErrMalformed, len(s))
		}
	}
	if e.Device != "" && !isName(e.Device) {
		return fmt.Errorf("%w: %q names no device", ErrMalformed, e.Device)
	}
	if err := checkPlace(e.Addresses, e.Peer); err != nil {
		return err
	}
	switch e.Kind {
	case SessionStarted, SessionMoved, SessionEnded, LeaseAssigned, DeviceRefused, AlertResult, Counters, Dropped:
		return nil
	}
	return fmt.Errorf("%w: kind %q", ErrMalformed, e.Kind)
}

// checkPlace of a session: what isn't there is left out, and nothing inside has a
// zone.
func checkPlace(addresses []netip.Addr, peer netip.AddrPort) error {
	if len(addresses) > MaxAddresses {
		return fmt.Errorf("%w: %d addresses", ErrMalformed, len(addresses))
	}
	for _, a := range addresses {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("%w: %q is no virtual address", ErrMalformed, a)
		}
	}
	if len(peer.Addr().Zone()) > maxZone {
		return fmt.Errorf("%w: a peer in a zone of %d octets", ErrMalformed, len(peer.Addr().Zone()))
	}
	return nil
}
