package policy

import (
	"cmp"
	"encoding/base64"
	"maps"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Command waits for a device: a change, or several that are made together.
type Command struct {
	// ID is unique for the device.
	ID      string   `json:"id"`
	Atomic  bool     `json:"atomic,omitempty"`
	Changes []Change `json:"changes"`
}

// Change of a node: Add, Replace or Delete.
type Change struct {
	Verb    syncml.Verb `json:"verb"`
	Setting Setting     `json:"setting"`
	// Set that wants it; empty where none does.
	Set string `json:"set,omitempty"`
	// Of is the node that is given up by removing one above.
	Of string `json:"of,omitempty"`
	// Last: after it policies have nothing to do with the node any more.
	Last bool `json:"last,omitempty"`
}

// node whose state the change is about.
func (c Change) node() string { return cmp.Or(c.Of, c.Setting.URI) }

func (c Change) digest() string { return string(c.Verb) + " " + c.Setting.digest() }

// same content, whatever the IDs and names of sets.
func (c Command) same(other Command) bool {
	return c.Atomic == other.Atomic && slices.EqualFunc(c.Changes, other.Changes, func(a, b Change) bool {
		a.Set, b.Set = "", ""
		return a == b
	})
}

// commands of changes, in their order; those of an atomic set are one command,
// at the place of the first.
func commands(changes []Change, atomic map[string]bool) []Command {
	var out []Command
	at := map[string]int{}
	for _, c := range changes {
		if !atomic[c.Set] {
			out = append(out, Command{Changes: []Change{c}})
			continue
		}
		i, ok := at[c.Set]
		if !ok {
			i = len(out)
			at[c.Set] = i
			out = append(out, Command{Atomic: true})
		}
		out[i].Changes = append(out[i].Changes, c)
	}
	return out
}

// Task for the device's queue. It may be repeated: what it leaves is the same.
func (c Command) Task() session.Task {
	t := session.Task{ID: c.ID, Semantics: session.Idempotent}
	if !c.Atomic {
		t.Command = c.Changes[0].op()
		return t
	}
	g := &syncml.Group{Atomic: true}
	for _, change := range c.Changes {
		g.Commands = append(g.Commands, change.op())
	}
	t.Command = g
	return t
}

func (c Change) op() *syncml.Op {
	s := c.Setting
	item := syncml.Item{Target: syncml.Location{URI: s.URI}}
	if c.Verb != syncml.Delete {
		item.Meta = syncml.Meta{Format: cmp.Or(s.Format, "chr"), Type: s.Type}
		switch s.Format {
		case "node", "null":
		case "bin":
			item.Data, _ = base64.StdEncoding.DecodeString(s.Data) // checked by validate
			item.HasData = true
		case "xml":
			item.Data, item.HasData, item.Markup = []byte(s.Data), true, true
		default:
			item.Data, item.HasData = []byte(s.Data), true
		}
	}
	return &syncml.Op{Verb: c.Verb, Items: []syncml.Item{item}}
}

// Record takes what a device answered to commands and returns the new state; s
// stays as it is. Outcomes of other tasks, and those that were recorded before,
// change nothing.
func (s State) Record(outcomes []session.Outcome, at time.Time) State {
	out := s
	out.Nodes, out.Commands = maps.Clone(s.Nodes), slices.Clone(s.Commands)
	if out.Nodes == nil {
		out.Nodes = map[string]Node{}
	}
	for _, o := range outcomes {
		i := slices.IndexFunc(out.Commands, func(c Command) bool { return c.ID == o.Task })
		if i < 0 {
			continue
		}
		c := out.Commands[i]
		out.Commands = slices.Delete(out.Commands, i, i+1)
		for j, code := range codes(c, o) {
			if code != 0 {
				out.answer(c.Changes[j], code, at)
			}
		}
	}
	return out
}

// codes of each change; zero where it wasn't executed because of another one.
func codes(c Command, o session.Outcome) []int {
	out := make([]int, len(c.Changes))
	if !c.Atomic || o.State != session.Answered || len(o.Parts) != len(out) || succeeded(o.Code) {
		for i := range out {
			out[i] = o.Code
		}
		return out
	}
	guilty := false
	for i, p := range o.Parts {
		switch {
		case succeeded(p.Code), p.Code == 0, p.Code == syncml.StatusNotExecuted, p.Code == syncml.StatusRolledBack, p.Code == syncml.StatusCancelled:
		default:
			out[i], guilty = p.Code, true
		}
	}
	if !guilty {
		for i := range out {
			out[i] = o.Code
		}
	}
	return out
}

// succeeded: a success, other than those that say that nothing was done.
func succeeded(code int) bool {
	return code >= 200 && code < 300 && code != syncml.StatusCancelled && code != syncml.StatusNotExecuted && code != syncml.StatusRolledBack
}

func (s State) answer(c Change, code int, at time.Time) {
	uri := c.node()
	n := s.Nodes[uri]
	gone := code == syncml.StatusNotFound || code == syncml.StatusGone
	switch {
	case c.Verb == syncml.Delete && (succeeded(code) || gone):
		s.forget(c.Setting.URI)
		n = Node{Gone: true, At: at}
	case succeeded(code):
		n = Node{Have: c.Setting.digest(), Format: c.Setting.Format, Present: true, At: at}
		n.afterwards(c.Setting)
	case c.Verb == syncml.Add && (code == syncml.StatusAlreadyExists || code == syncml.StatusNotAllowed) && n.Tries < maxTries:
		n.Present, n.Gone, n.Tries = true, false, n.Tries+1
		if code == syncml.StatusAlreadyExists && c.Setting.Format != "node" {
			// It may be there because this command was executed before.
			n.Sent, n.Format = true, c.Setting.Format
			n.afterwards(c.Setting)
		}
	case c.Verb == syncml.Replace && gone && c.Last: // nothing to leave a value in
		n = Node{Gone: true, At: at}
	case c.Verb == syncml.Replace && gone && n.Tries < maxTries:
		n.Have, n.Present, n.Gone, n.Tries = "", false, true, n.Tries+1
	default:
		n.Failed, n.Code, n.At, n.Tries = c.digest(), code, at, 0
	}
	if c.Last && n.Failed == "" {
		delete(s.Nodes, uri)
		return
	}
	s.Nodes[uri] = n
}
