package session

import (
	"context"
	"encoding/base64"
	"fmt"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// outgoing is a large object that we send in chunks.
type outgoing struct {
	open   bool
	flight *flight
	op     *syncml.Op // with the first item emptied
	rest   []byte
	// What the device said of the last chunk.
	accepted, lost bool
	refusedBy      int
}

// flush puts statuses of the backlog into the message, as many as fit, at least
// one. It reports whether all did.
func (r *reply) flush() bool {
	s := r.s
	for n := 0; len(s.backlog) > 0; n++ {
		c := s.backlog[0]
		if n > 0 && r.in.Syntax.Size(syncml.CommandElement(c))+cmdIDSize > r.room {
			return false
		}
		r.command(c)
		s.owed -= cost(c)
		s.backlog = s.backlog[1:]
	}
	s.backlog, s.owed = nil, 0
	return true
}

// cmdIDSize is the most that CmdIDs, which commands get when they are put into a
// message, take in either syntax for one command.
const cmdIDSize = len("<CmdID>12345</CmdID>")

// fill makes the answer to a message that was taken.
func (r *reply) fill(ctx context.Context, v verdict) (Output, error) {
	s := r.s
	if !r.flush() {
		// No room for anything else; the device asks for more.
		r.more = true
		return r.finish(false)
	}
	if s.in.open || v == wait {
		r.more = true
		r.command(&syncml.Alert{Code: syncml.AlertNextMessage})
		return r.finish(false)
	}
	if s.out.open {
		r.chunk()
		return r.finish(false)
	}
	if err := r.tasks(ctx); err != nil {
		return Output{}, err
	}
	// A device that has yet to check our secret may want to see it again.
	return r.finish(r.sent == 0 && !r.more && !s.held())
}

// tasks fills the message with commands: first decide, then claim, then send
// what was granted.
func (r *reply) tasks(ctx context.Context) error {
	s := r.s
	for r.sent == 0 && !r.more {
		if err := s.fetch(ctx); err != nil {
			return err
		}
		if len(s.pending) == 0 {
			return nil
		}
		if err := r.send(ctx, r.choose()); err != nil {
			return err
		}
		// What couldn't be sent, or was known already, has an outcome.
		if !s.report.empty() {
			if err := s.cfg.Queue.Record(ctx, s.device, s.report); err != nil {
				return fmt.Errorf("recording outcomes of %s: %w", s.device, err)
			}
			s.report = Report{At: s.report.At}
		}
	}
	return nil
}

// fetch gets more tasks when none are left.
func (s *Session) fetch(ctx context.Context) error {
	room := s.cfg.MaxTasks - len(s.offered)
	if len(s.pending) > 0 || s.drained || room <= 0 {
		return nil
	}
	n := min(s.cfg.Batch, room)
	tasks, err := s.cfg.Queue.Next(ctx, s.device, s.offered, n)
	if err != nil {
		return fmt.Errorf("tasks of %s: %w", s.device, err)
	}
	s.drained = len(tasks) < n
	for _, t := range tasks {
		if s.seen[t.ID] {
			continue
		}
		s.seen[t.ID] = true
		s.offered = append(s.offered, t.ID)
		s.pending = append(s.pending, t)
	}
	if len(tasks) > 0 && len(s.pending) == 0 {
		s.drained = true // a queue that repeats itself
	}
	return nil
}

// choice is a task with the command that shall be sent for it.
type choice struct {
	task    Task
	command syncml.Command
	query   bool
	// rest of a large object, whose first chunk the command has.
	rest []byte
}

// choose takes tasks from pending as long as they fit into the message.
func (r *reply) choose() []choice {
	s := r.s
	var chosen []choice
	room, next := r.room, r.next
	for len(s.pending) > 0 && len(chosen) < s.cfg.Batch {
		t := s.pending[0]
		c := choice{task: t}
		switch {
		case t.Attempt > 0 && t.once():
			s.pending = s.pending[1:]
			s.report.Outcomes = append(s.report.Outcomes, Outcome{Task: t.ID, State: Unknown})
			continue
		case t.Attempt > 0 && t.Semantics == Queryable:
			c.query = true
			c.command = &syncml.Op{Verb: syncml.Get, Items: []syncml.Item{{Target: syncml.Location{URI: t.Query.URI}}}}
		case t.once() && s.held():
			// Not before the device believes us: ask it something harmless.
			if len(chosen) == 0 {
				c.query = true
				c.task = Task{}
				c.command = &syncml.Op{Verb: syncml.Get, Items: []syncml.Item{{Target: syncml.Location{URI: "./DevInfo/DevId"}}}}
				return []choice{c}
			}
			return chosen
		default:
			command, code := s.prepare(t.Command, r.in.Syntax)
			if code != 0 {
				s.pending = s.pending[1:]
				s.report.Outcomes = append(s.report.Outcomes, Outcome{Task: t.ID, State: Undeliverable, Code: code})
				continue
			}
			c.command = command
		}
		number(c.command, &next)
		size := r.in.Syntax.Size(syncml.CommandElement(c.command))
		if size > room {
			if len(chosen) > 0 {
				return chosen
			}
			if c.rest = r.split(c.command, room); c.rest == nil {
				if size <= r.alone {
					r.more = true // after the statuses that fill this message
					return nil
				}
				s.pending = s.pending[1:]
				s.report.Outcomes = append(s.report.Outcomes, Outcome{Task: t.ID, State: Undeliverable, Code: syncml.StatusEntityTooLarge})
				continue
			}
			s.pending = s.pending[1:]
			return []choice{c}
		}
		room -= size
		s.pending = s.pending[1:]
		chosen = append(chosen, c)
	}
	return chosen
}

// held: the device has a secret of ours to check and hasn't yet. A message that
// it doesn't believe would have to be sent again.
func (s *Session) held() bool { return len(s.account.ServerPassword) > 0 && !s.auth.trusted }

// send claims what was chosen and puts what was granted into the message.
func (r *reply) send(ctx context.Context, chosen []choice) error {
	s := r.s
	var claims []Claim
	for _, c := range chosen {
		if !c.query {
			claims = append(claims, Claim{Task: c.task.ID, Attempt: c.task.Attempt})
		}
	}
	var granted []bool
	if len(claims) > 0 {
		var err error
		if granted, err = s.cfg.Queue.Claim(ctx, s.device, claims); err != nil {
			return fmt.Errorf("claiming tasks of %s: %w", s.device, err)
		}
		if len(granted) != len(claims) {
			return fmt.Errorf("claiming tasks of %s: %d answers to %d claims", s.device, len(granted), len(claims))
		}
	}
	for _, c := range chosen {
		if !c.query {
			ok := granted[0]
			if granted = granted[1:]; !ok {
				continue
			}
		}
		r.command(c.command)
		r.sent++
		r.once = r.once || c.task.once()
		f := newFlight(c.task, c.query, r.s.msgID(), c.command)
		f.over = c.query && c.task.ID == ""
		s.flights = append(s.flights, f)
		if c.rest != nil {
			s.out = outgoing{open: true, flight: f, op: c.command.(*syncml.Op), rest: c.rest}
			r.more = true
		}
	}
	return nil
}

// prepare copies a command and makes its data fit the syntax. The status says
// why it can't.
func (s *Session) prepare(c syncml.Command, syntax syncml.Syntax) (syncml.Command, int) {
	switch c := c.(type) {
	case *syncml.Op:
		o := *c
		var code int
		o.Items, code = s.prepareItems(c.Items, c.Meta, syntax)
		return &o, code
	case *syncml.Alert:
		a := *c
		var code int
		a.Items, code = s.prepareItems(c.Items, syncml.Meta{}, syntax)
		return &a, code
	case *syncml.Group:
		g := *c
		g.Commands = nil
		for _, inner := range c.Commands {
			p, code := s.prepare(inner, syntax)
			if code != 0 {
				return nil, code
			}
			g.Commands = append(g.Commands, p)
		}
		return &g, 0
	}
	return nil, syncml.StatusNotImplemented
}

func (s *Session) prepareItems(items []syncml.Item, meta syncml.Meta, syntax syncml.Syntax) ([]syncml.Item, int) {
	items = append([]syncml.Item(nil), items...)
	for n := range items {
		i := &items[n]
		if !syntax.Binary() {
			if i.Meta.Format == "bin" || i.Meta.Format == "" && meta.Format == "bin" {
				i.Meta.Format, i.Data = "b64", base64.StdEncoding.AppendEncode(nil, i.Data)
			} else if !syncml.IsText(i.Data) {
				return nil, syncml.StatusUnsupportedType
			}
		}
		if s.devObj > 0 && int64(len(i.Data)) > s.devObj {
			return nil, syncml.StatusEntityTooLarge
		}
	}
	return items, 0
}

// minChunk keeps an object from being sent in crumbs.
const minChunk = 64

// split leaves in c what fits into room as a first chunk and returns the rest,
// nil if c can't be sent in chunks: only an Add or Replace of one item can.
func (r *reply) split(c syncml.Command, room int) []byte {
	o, ok := c.(*syncml.Op)
	if !ok || o.Verb != syncml.Add && o.Verb != syncml.Replace || len(o.Items) != 1 || o.Items[0].Markup {
		return nil
	}
	i := &o.Items[0]
	whole := i.Data
	i.Meta.Size, i.MoreData = int64(len(whole)), true
	n := r.fits(o, whole, room)
	if n < min(minChunk, len(whole)-1) || n == 0 {
		i.Data, i.MoreData, i.Meta.Size = whole, false, 0
		return nil
	}
	i.Data = whole[:n]
	return whole[n:]
}

// fits returns how many octets of data fit into the only item of o in room.
func (r *reply) fits(o *syncml.Op, data []byte, room int) int {
	o.Items[0].Data, o.Items[0].HasData = []byte{'x'}, true
	room -= r.in.Syntax.Size(syncml.CommandElement(o)) - 1
	n := 0
	for n < len(data) {
		_, size := utf8.DecodeRune(data[n:])
		cost := size
		if !r.in.Syntax.Binary() {
			cost = syncml.EscapedSize(data[n : n+size])
		}
		if room -= cost; room < 0 {
			break
		}
		n += size
	}
	return n
}

// chunkAnswered looks at what the device said of the last chunk. The object goes
// on after 213, or if the device asks for our next message.
func (s *Session) chunkAnswered(v verdict, next bool) verdict {
	o := &s.out
	switch {
	case v == stop:
		s.out = outgoing{}
		return stop
	case o.refusedBy != 0 || o.lost || !o.accepted && !next:
		// Refused with a status, which the flight has, or not answered.
		s.out = outgoing{}
	default:
		o.accepted = false
	}
	return proceed
}

// chunk puts the next one into the message.
func (r *reply) chunk() {
	s := r.s
	o := *s.out.op
	o.CmdID = ""
	o.Items = []syncml.Item{s.out.op.Items[0]}
	i := &o.Items[0]
	i.Meta.Size, i.MoreData = 0, true
	n := max(r.fits(&o, s.out.rest, r.room-cmdIDSize), 1)
	i.Data, s.out.rest = s.out.rest[:n], s.out.rest[n:]
	i.MoreData = len(s.out.rest) > 0
	r.command(&o)
	r.once = s.out.flight.task.once()
	// The status of the last chunk is that of the command.
	f := s.out.flight
	f.msgRef, f.parts = s.msgID(), nil
	f.addParts(&o)
	r.more = i.MoreData
	if !r.more {
		s.out = outgoing{}
	}
}
