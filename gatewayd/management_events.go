package main

import (
	"github.com/roamgate/roamgate/control/alerter"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/session"
)

// What happens at a gateway, as events for its manager.

// recorded: a session came up or ended.
func (m *management) recorded(r session.Record) {
	e := gcm.Event{At: r.Time, Device: r.Device, Session: r.Session, Addresses: r.VirtualIPs, Peer: r.Remote}
	switch r.Event {
	case session.RecordStart:
		e.Kind = gcm.SessionStarted
	case session.RecordStop:
		e.Kind, e.Reason = gcm.SessionEnded, string(r.Reason)
		e.Sums = map[string]uint64{"bytes_in": r.BytesIn, "packets_in": r.PacketsIn, "bytes_out": r.BytesOut, "packets_out": r.PacketsOut}
	case session.RecordInterim:
		return
	}
	m.agent.Events.Add(e)
}

var noticeKinds = map[session.NoticeKind]gcm.EventKind{
	session.NoticeMoved: gcm.SessionMoved, session.NoticeAssigned: gcm.LeaseAssigned, session.NoticeRefused: gcm.DeviceRefused,
}

// noticed: something beside that.
func (m *management) noticed(n session.Notice) {
	m.agent.Events.Add(gcm.Event{
		At: n.Time, Kind: noticeKinds[n.Kind], Device: n.Device, Session: n.Session, Addresses: n.Addresses, Peer: n.Remote, Reason: n.Reason,
	})
}

// alerted: an alert came to its end.
func (m *management) alerted(r alerter.Result) {
	m.agent.Events.Add(gcm.Event{Kind: gcm.AlertResult, Device: r.Device, Alert: r.Alert, Reason: string(r.Outcome), Count: uint64(r.Tries)})
}

// where a device is, for the alerter: the first of its addresses that the gateway
// has an address beside, IPv4 before IPv6.
func (m *management) where(device string) (alerter.Device, bool) {
	info, ok := m.gateway.sessions.Session(device)
	if !ok {
		return alerter.Device{}, false
	}
	for _, four := range []bool{true, false} {
		for _, a := range info.VirtualIPs {
			if a.Is4() == four && m.sockets.of(a) != nil {
				return alerter.Device{Address: a, Heard: info.LastIn}, true
			}
		}
	}
	return alerter.Device{}, false
}
