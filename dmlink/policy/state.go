package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// State is what is known of a device's nodes, as far as policies have to do with
// them, and which commands wait for it. It is stored as JSON. The zero State is
// that of a device that was never told anything.
type State struct {
	// Version of the document that the commands were computed from.
	Version int64 `json:"version"`
	// Serial of the last commands that were made.
	Serial int64 `json:"serial"`
	// Due is when a change that the device refused is to be tried again; zero if
	// there is none.
	Due time.Time `json:"due,omitzero"`
	// Settled is how the device stands to what it was last asked for.
	Settled  Settled         `json:"settled,omitempty"`
	Nodes    map[string]Node `json:"nodes,omitempty"`
	Commands []Command       `json:"commands,omitempty"`
}

// Settled is how a device stands to policies.
type Settled string

// A device is neither before it has answered for the first time.
const (
	Compliant    Settled = "compliant"     // it has confirmed all of it
	NonCompliant Settled = "non-compliant" // it has refused some
)

// settle by what is left to do; what waits leaves it as it was, and so does what
// may still be asked for, because it isn't known whom filters mean.
func (s *State) settle(known bool) {
	switch {
	case !s.Due.IsZero():
		s.Settled = NonCompliant
	case len(s.Commands) == 0 && known:
		s.Settled = Compliant
	}
}

// Node is what a device confirmed about one.
type Node struct {
	// Have is the digest of the value that the device confirmed; empty if none.
	Have string `json:"have,omitempty"`
	// Format of that value.
	Format string `json:"format,omitempty"`
	// Present: the node is there, whatever its value. Gone: it isn't. If neither,
	// nobody knows.
	Present bool `json:"present,omitempty"`
	Gone    bool `json:"gone,omitempty"`
	// Sent: a value may have been sent, and there was no answer.
	Sent bool `json:"sent,omitempty"`
	// After, Leave and RemoveAt are those of the setting that was confirmed or
	// sent.
	After    After  `json:"after,omitempty"`
	Leave    string `json:"leave,omitempty"`
	RemoveAt string `json:"remove_at,omitempty"`
	// Failed is the digest of a change that the device refused with Code, At a
	// time. Tries counts answers that asked for another command.
	Failed string    `json:"failed,omitempty"`
	Code   int       `json:"code,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Tries  int       `json:"tries,omitempty"`
}

// afterwards notes what happens when nobody wants the setting any more.
func (n *Node) afterwards(s Setting) { n.After, n.Leave, n.RemoveAt = s.After, s.Leave, s.RemoveAt }

// ours: policies have given it a value that has to be taken care of.
func (n Node) ours() bool { return n.Have != "" || n.Sent }

// maxTries of Add and Replace in turn, when a device answers that the node is
// there to the one and that it isn't to the other.
const maxTries = 4

// digest of what a device would see.
func (s Setting) digest() string {
	if s.Absent {
		return "absent"
	}
	sum := sha256.Sum256([]byte(s.Format + "\x00" + s.Type + "\x00" + s.Data))
	return base64.RawStdEncoding.EncodeToString(sum[:15])
}

// Next computes what has to be sent so that the device has the result, and
// returns the new state; s stays as it is. claimed are the IDs of commands that
// were sent and not answered. A change that the device refused is made again
// after retry. Commands that are still right keep their IDs.
func (s State) Next(r Result, version int64, claimed []string, now time.Time, retry time.Duration) State {
	out := State{Version: version, Serial: s.Serial, Settled: s.Settled, Nodes: maps.Clone(s.Nodes)}
	if out.Nodes == nil {
		out.Nodes = map[string]Node{}
	}
	changes := out.changes(r, now, retry)
	// What was sent and isn't wanted any more may have been executed.
	fresh, unsure := commands(changes, r.atomic), false
	for _, c := range s.Commands {
		if slices.Contains(claimed, c.ID) && !slices.ContainsFunc(fresh, c.same) {
			out.sent(c)
			unsure = true
		}
	}
	if unsure {
		changes = out.changes(r, now, retry)
	}
	out.Commands = commands(changes, r.atomic)
	for i, c := range out.Commands {
		old := slices.IndexFunc(s.Commands, func(o Command) bool { return o.same(c) })
		if old >= 0 {
			out.Commands[i].ID = s.Commands[old].ID
			continue
		}
		out.Serial++
		out.Commands[i].ID = fmt.Sprintf("p%d", out.Serial)
	}
	return out
}

// sent notes that nobody knows whether a command was executed.
func (s State) sent(c Command) {
	for _, change := range c.Changes {
		if change.Verb == syncml.Delete {
			for uri, n := range s.Nodes {
				if root := change.Setting.URI; uri == root || strings.HasPrefix(uri, root+"/") {
					n.doubt()
					s.Nodes[uri] = n
				}
			}
			continue
		}
		n := s.Nodes[change.node()]
		n.doubt()
		n.Sent, n.Format = true, change.Setting.Format
		n.afterwards(change.Setting)
		s.Nodes[change.node()] = n
	}
}

// doubt all that the device confirmed.
func (n *Node) doubt() {
	n.Sent = n.ours()
	n.Have, n.Present, n.Gone = "", false, false
}

// Doubted is the state of a device of which nothing is certain any more, because
// the record is older than what it was told: all that policies gave it is sent
// again. s stays as it is.
func (s State) Doubted() State {
	s.Nodes = maps.Clone(s.Nodes)
	for uri, n := range s.Nodes {
		n.doubt()
		s.Nodes[uri] = n
	}
	return s
}

// changes that lead to the result: what is removed first, then by URI, so that
// interior nodes come before what is in them. It sets Due.
func (s *State) changes(r Result, now time.Time, retry time.Duration) []Change {
	wanted := map[string]Value{}
	within := map[string]bool{} // nodes above wanted ones
	for _, v := range r.Values {
		wanted[v.Setting.URI] = v
		for parent := range parents(v.Setting.URI) {
			within[parent] = within[parent] || !v.Setting.Absent
		}
	}
	var removals, settings []Change
	removed := map[string]bool{}
	for _, uri := range slices.Sorted(maps.Keys(s.Nodes)) {
		if _, ok := wanted[uri]; ok || underOne(uri, removed) || underAbsent(uri, wanted) {
			continue
		}
		c, ok := s.giveUp(uri, within)
		if !ok || removed[c.Setting.URI] {
			continue
		}
		if c.Verb == syncml.Delete {
			removed[c.Setting.URI] = true
		}
		removals = append(removals, c)
	}
	for _, v := range r.Values { // by URI
		if c, ok := s.change(v); ok {
			settings = append(settings, c)
		}
	}
	s.Due = time.Time{}
	return slices.DeleteFunc(append(removals, settings...), func(c Change) bool {
		n := s.Nodes[c.node()]
		due := n.At.Add(retry)
		if n.Failed != c.digest() || !now.Before(due) {
			return false
		}
		if s.Due.IsZero() || due.Before(s.Due) {
			s.Due = due
		}
		return true
	})
}

// giveUp what no set wants any more. It forgets nodes of which nothing is left to do.
func (s State) giveUp(uri string, within map[string]bool) (Change, bool) {
	n := s.Nodes[uri]
	switch {
	case !n.ours(), n.After == Keep:
		delete(s.Nodes, uri)
		return Change{}, false
	case n.After == Leave:
		left := Setting{URI: uri, Format: n.Format, Data: n.Leave}
		return Change{Verb: syncml.Replace, Setting: left, Last: true}, true
	case within[uri] && n.Format == "node", within[n.RemoveAt]: // others need it
		return Change{}, false
	case n.RemoveAt != "":
		return Change{Verb: syncml.Delete, Setting: Setting{URI: n.RemoveAt, Absent: true}, Of: uri, Last: true}, true
	}
	return Change{Verb: syncml.Delete, Setting: Setting{URI: uri, Absent: true}, Last: true}, true
}

// change that makes a node what it shall be; false if it is.
func (s State) change(v Value) (Change, bool) {
	want := v.Setting
	n := s.Nodes[want.URI]
	c := Change{Setting: want, Set: v.Set}
	switch {
	case want.Absent:
		c.Verb = syncml.Delete
		return c, !n.Gone
	case n.Have == want.digest():
		there := want.Format == "node" && n.After == Keep // before us
		if !there && (n.After != want.After || n.Leave != want.Leave || n.RemoveAt != want.RemoveAt) {
			n.afterwards(want)
			s.Nodes[want.URI] = n
		}
		return Change{}, false
	case n.ours() && (n.Format == "node") != (want.Format == "node"):
		// It can't become the other; the next step adds it.
		return Change{Verb: syncml.Delete, Setting: Setting{URI: want.URI, Absent: true}}, true
	case n.Present && want.Format == "node":
		n.Have, n.Format = want.digest(), want.Format
		n.afterwards(want)
		if !n.Sent {
			n.After = Keep // it was there before us
		}
		s.Nodes[want.URI] = n
		return Change{}, false
	case n.Present, want.There && !n.Gone:
		c.Verb = syncml.Replace
	default:
		c.Verb = syncml.Add
	}
	return c, true
}

func underOne(uri string, of map[string]bool) bool {
	for parent := range parents(uri) {
		if of[parent] {
			return true
		}
	}
	return false
}

func underAbsent(uri string, wanted map[string]Value) bool {
	for parent := range parents(uri) {
		if wanted[parent].Setting.Absent {
			return true
		}
	}
	return false
}

// forget nodes below one that was deleted.
func (s State) forget(uri string) {
	maps.DeleteFunc(s.Nodes, func(u string, _ Node) bool { return strings.HasPrefix(u, uri+"/") })
}
