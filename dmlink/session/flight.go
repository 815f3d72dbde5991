package session

import (
	"bytes"
	"slices"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// flight is a command that was sent and not finished: of a task, or the query
// about one.
type flight struct {
	task  Task
	query bool
	// msgRef is the MsgID it was sent in.
	msgRef string
	// parts: the command, and for a group all in it. Their order is that of
	// their CmdIDs.
	parts   []part
	results []Value
	// lost: a result was sent and refused, with this status.
	lost int
	// over: outcome was reported, or there is none to report.
	over bool
}

type part struct {
	cmdID, name, uri string
	code             int
}

// newFlight of a command that has its CmdIDs.
func newFlight(t Task, query bool, msgRef string, c syncml.Command) *flight {
	f := &flight{task: t, query: query, msgRef: msgRef}
	f.addParts(c)
	return f
}

func (f *flight) addParts(c syncml.Command) {
	p := part{cmdID: c.ID(), name: c.Name()}
	switch c := c.(type) {
	case *syncml.Op:
		if len(c.Items) > 0 {
			p.uri = c.Items[0].Target.URI
		}
	case *syncml.Group:
		f.parts = append(f.parts, p)
		for _, inner := range c.Commands {
			f.addParts(inner)
		}
		return
	}
	f.parts = append(f.parts, p)
}

// find the flight and part that a Status or Results refers to.
func (s *Session) find(msgRef, cmdRef string) (*flight, *part) {
	for _, f := range s.flights {
		if f.msgRef != msgRef && msgRef != "" {
			continue
		}
		for i := range f.parts {
			if f.parts[i].cmdID == cmdRef {
				return f, &f.parts[i]
			}
		}
	}
	return nil, nil
}

// status of one part. A command with several items may get several; a failure
// counts more than a success, and 101, in progress, is none.
func (p *part) status(code int) {
	if code < 200 {
		return
	}
	if p.code == 0 || p.code >= 200 && p.code < 300 {
		p.code = code
	}
}

func (f *flight) refused(code int) {
	for i := range f.parts {
		f.parts[i].status(code)
	}
}

// settle reports what became of the flights whose package is complete. The
// device has had its say: what has no status now doesn't get one.
func (s *Session) settle() {
	for _, f := range s.flights {
		if !f.over {
			s.settleOne(f)
		}
	}
	s.flights, s.resultOctets = nil, 0
}

func (s *Session) settleOne(f *flight) {
	code := f.parts[0].code
	switch {
	case f.query:
		s.judgeQuery(f, code)
	case code != 0:
		if f.lost != 0 {
			code = f.lost
		}
		o := Outcome{Task: f.task.ID, State: Answered, Code: code, Results: f.results}
		for _, p := range f.parts[1:] {
			o.Parts = append(o.Parts, Part{Name: p.name, URI: p.uri, Code: p.code})
		}
		s.report.Outcomes = append(s.report.Outcomes, o)
	case f.task.once():
		s.report.Outcomes = append(s.report.Outcomes, Outcome{Task: f.task.ID, State: Unknown})
	}
}

// once: it may not be sent twice.
func (t *Task) once() bool {
	return t.Semantics == OnceOnly || t.Semantics == Queryable && t.Query == nil
}

// judgeQuery sends the command anew unless the device's answer shows its effect.
func (s *Session) judgeQuery(f *flight, code int) {
	q, found := f.task.Query, code == syncml.StatusOK && len(f.results) > 0
	switch {
	case q.Gone && code == syncml.StatusNotFound,
		!q.Gone && found && (q.Want == nil || bytes.Equal(f.results[0].Data, q.Want)):
		s.report.Outcomes = append(s.report.Outcomes, Outcome{Task: f.task.ID, State: Confirmed, Code: code, Results: f.results})
	case found, code == syncml.StatusNotFound:
		t := f.task
		t.Query = nil
		t.Semantics = Idempotent // asked and answered
		s.pending = append([]Task{t}, s.pending...)
	}
	// No answer, or another: the task stays in the queue.
}

// forget takes flights as not sent: the device has looked at none of them. What
// may be sent again comes again from the queue.
func (s *Session) forget() {
	for _, f := range s.flights {
		if !f.task.once() {
			delete(s.seen, f.task.ID)
		}
	}
	s.offered = slices.DeleteFunc(s.offered, func(id string) bool { return !s.seen[id] })
	s.flights, s.resultOctets, s.out, s.drained = nil, 0, outgoing{}, false
}
