package session

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// verdict is what a message of the device asks for.
type verdict uint8

const (
	// proceed: its package is complete, it is our turn.
	proceed verdict = iota
	// wait: its package goes on.
	wait
	// stop: no more, ever.
	stop
)

// take reads the body of a message: statuses and results go to the flights they
// belong to, alerts and DevInfo into the report; what needs a status gets one
// into the backlog.
func (s *Session) take(ctx context.Context, m *syncml.Message) (verdict, error) {
	v := wait
	if m.Final {
		v = proceed
	}
	next := false
	s.in.began()
	s.headerAnswered = false
	for _, c := range m.Body {
		if c.ID() == "" && c.Name() != "Status" && c.Name() != "Results" {
			s.reply(m, c, nil, syncml.StatusBadRequest)
			continue
		}
		switch c := c.(type) {
		case *syncml.Status:
			ok, err := s.status(ctx, c)
			if err != nil {
				return stop, err
			}
			if !ok {
				v = stop
			}
		case *syncml.Results:
			s.results(c, m.Header.MsgID)
		case *syncml.Alert:
			switch s.alert(c, m) {
			case syncml.AlertNextMessage:
				next = true
			case syncml.AlertSessionAbort:
				v = stop
			}
		case *syncml.Op:
			s.op(c, m)
		case *syncml.Group:
			if !c.NoResp {
				s.reply(m, c, nil, syncml.StatusNotImplemented)
			}
		case *syncml.Unknown:
			s.reply(m, c, nil, syncml.StatusBadRequest)
		}
	}
	s.in.ended(s)
	// Who asks for our next message has said what it had to say.
	if next && v == wait {
		v = proceed
	}
	if s.out.open {
		v = s.chunkAnswered(v, next)
	}
	if v != wait && !s.out.open {
		s.settle()
	}
	return v, nil
}

// reply puts a status into the backlog.
func (s *Session) reply(m *syncml.Message, c syncml.Command, items []syncml.Item, code int) {
	st := &syncml.Status{MsgRef: m.Header.MsgID, CmdRef: c.ID(), Cmd: c.Name(), Code: code}
	if len(items) == 1 {
		st.TargetRefs, st.SourceRef = nonEmpty(items[0].Target.URI), nonEmpty(items[0].Source.URI)
	}
	s.owe(st)
}

// owe the device c, when there is room for it.
func (s *Session) owe(c syncml.Command) {
	s.backlog = append(s.backlog, c)
	s.owed += cost(c)
}

// cost is about what a command of the backlog takes in memory.
func cost(c syncml.Command) int {
	n := backlogCost
	add := func(all ...string) {
		for _, s := range all {
			n += len(s)
		}
	}
	switch c := c.(type) {
	case *syncml.Status:
		add(c.CmdRef, c.Cmd)
		add(c.TargetRefs...)
		add(c.SourceRef...)
	case *syncml.Alert:
		for _, i := range c.Items {
			add(i.Target.URI, i.Source.URI)
		}
	}
	return n
}

// backlogCost is what a command takes beside the device's own words in it.
const backlogCost = 256

// status of something that we sent. False: the device refuses us.
func (s *Session) status(ctx context.Context, st *syncml.Status) (bool, error) {
	if st.CmdRef == "0" {
		// One a message: each may be a write.
		if s.headerAnswered {
			return true, nil
		}
		s.headerAnswered = true
		return s.headerStatus(ctx, st)
	}
	f, p := s.find(st.MsgRef, st.CmdRef)
	if f == nil || st.Cmd != "" && st.Cmd != p.name {
		return true, nil // of a message that is settled, or of what never was
	}
	if s.out.open && s.out.flight == f {
		if st.Code == syncml.StatusChunkAccepted {
			s.out.accepted = true
			return true, nil
		}
		s.out.refusedBy = st.Code
	}
	p.status(st.Code)
	// What the user answered.
	for _, i := range st.Items {
		if i.HasData {
			s.keep(f, i)
		}
	}
	return true, nil
}

// keep a result until its task is settled.
func (s *Session) keep(f *flight, i syncml.Item) {
	f.results = append(f.results, valueOf(i, syncml.Meta{}))
	s.resultOctets += len(i.Data) + len(i.Source.URI) + resultCost
}

// resultCost is what a result takes beside its octets.
const resultCost = 128

func (s *Session) results(r *syncml.Results, msgID string) {
	f, _ := s.find(r.MsgRef, r.CmdRef)
	for _, i := range r.Items {
		if i.Meta.Format == "" {
			i.Meta.Format = r.Meta.Format
		}
		if i.Meta.Type == "" {
			i.Meta.Type = r.Meta.Type
		}
		if i.Meta.Size == 0 {
			i.Meta.Size = r.Meta.Size
		}
		if i.Source.URI == "" {
			i.Source.URI = r.SourceRef
		}
		whole, done := s.in.add(s, i, r, f, msgID)
		if done && f != nil {
			s.keep(f, whole)
		}
	}
}

// valueOf an item that the device sent: of its Source, or where it named none,
// its Target.
func valueOf(i syncml.Item, standby syncml.Meta) Value {
	v := Value{URI: i.Source.URI, Format: i.Meta.Format, Type: i.Meta.Type, Data: i.Data}
	if v.URI == "" {
		v.URI = i.Target.URI
	}
	if v.Format == "" {
		v.Format = standby.Format
	}
	if v.Type == "" {
		v.Type = standby.Type
	}
	return v
}

// Bounds on alerts, each of which is kept: how many a session may tell us, and
// the octets of data in one.
const (
	maxAlerts    = 128
	maxAlertData = 64 << 10
)

// alert returns the code.
func (s *Session) alert(a *syncml.Alert, m *syncml.Message) int {
	code := syncml.StatusOK
	switch a.Code {
	case syncml.AlertServerInitiated, syncml.AlertClientInitiated, syncml.AlertNextMessage, syncml.AlertSessionAbort:
	case syncml.AlertNoEndOfData:
		// The device misses the rest of an object of ours.
		s.out.lost = true
	case syncml.AlertClientEvent, syncml.AlertGeneric:
		if s.alerts >= maxAlerts {
			code = syncml.StatusRetryLater
			break
		}
		told := Alert{Code: a.Code, Correlator: a.Correlator}
		size := 0
		for _, i := range a.Items {
			if whole, done := s.in.add(s, i, a, nil, m.Header.MsgID); done {
				told.Items = append(told.Items, whole)
				size += len(whole.Data)
			}
		}
		if size > maxAlertData {
			code = syncml.StatusEntityTooLarge
			break
		}
		if len(told.Items) > 0 || len(a.Items) == 0 {
			s.report.Alerts = append(s.report.Alerts, told)
			s.alerts++
		}
		if len(a.Items) > 0 && a.Items[len(a.Items)-1].MoreData {
			return a.Code // 213 was its status
		}
	case 0:
		code = syncml.StatusIncompleteCommand
	default:
		code = syncml.StatusNotImplemented
	}
	if !a.NoResp {
		s.reply(m, a, nil, code)
	}
	return a.Code
}

// op of a device: Replace of DevInfo is the only one that a server takes
// (OMA-TS-DM_Protocol-V1_2_1 section 8.3).
func (s *Session) op(o *syncml.Op, m *syncml.Message) {
	code, more := syncml.StatusOK, false
	if o.Verb != syncml.Replace {
		code = syncml.StatusNotAllowed
	} else {
		for _, i := range o.Items {
			uri := i.Source.URI
			if uri == "" {
				uri = i.Target.URI
			}
			if path := strings.TrimPrefix(uri, "./"); path != "DevInfo" && !strings.HasPrefix(path, "DevInfo/") {
				code = syncml.StatusNotAllowed
				continue
			}
			more = i.MoreData
			if whole, done := s.in.add(s, i, o, nil, m.Header.MsgID); done {
				s.report.DevInfo = append(s.report.DevInfo, valueOf(whole, o.Meta))
			}
		}
	}
	if !o.NoResp && !more {
		s.reply(m, o, o.Items, code)
	}
}

// decodedSize of base64 text, -1 if it is none.
func decodedSize(data []byte) int64 {
	text := strings.Join(strings.Fields(string(data)), "")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return -1
	}
	return int64(len(raw))
}
