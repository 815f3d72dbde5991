package store

import (
	"encoding/json"
	"fmt"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// wireCommand is how a command is stored: JSON, one of the fields set. CmdIDs
// are the session's, credentials the message's; neither is kept.
type wireCommand struct {
	Op       *wireOp        `json:"op,omitempty"`
	Alert    *wireAlert     `json:"alert,omitempty"`
	Atomic   *[]wireCommand `json:"atomic,omitempty"`
	Sequence *[]wireCommand `json:"sequence,omitempty"`
}

type wireOp struct {
	Verb       syncml.Verb `json:"verb"`
	Meta       *wireMeta   `json:"meta,omitempty"`
	Correlator string      `json:"correlator,omitempty"`
	Items      []wireItem  `json:"items,omitempty"`
}

type wireAlert struct {
	Code       int        `json:"code"`
	Correlator string     `json:"correlator,omitempty"`
	Items      []wireItem `json:"items,omitempty"`
}

type wireItem struct {
	Target     string    `json:"target,omitempty"`
	TargetName string    `json:"target_name,omitempty"`
	Source     string    `json:"source,omitempty"`
	SourceName string    `json:"source_name,omitempty"`
	Meta       *wireMeta `json:"meta,omitempty"`
	// Data is absent, or octets.
	Data   *[]byte `json:"data,omitempty"`
	Markup bool    `json:"markup,omitempty"`
}

type wireMeta struct {
	Format string `json:"format,omitempty"`
	Type   string `json:"type,omitempty"`
	Mark   string `json:"mark,omitempty"`
}

// maxDepth of groups in groups.
const maxDepth = 4

// marshalCommand refuses what no session could send.
func marshalCommand(c syncml.Command) ([]byte, error) {
	w, err := wireOf(c, 0)
	if err != nil {
		return nil, err
	}
	return json.Marshal(w)
}

func wireOf(c syncml.Command, depth int) (w wireCommand, err error) {
	switch c := c.(type) {
	case *syncml.Op:
		w.Op = &wireOp{Verb: c.Verb, Meta: metaOf(c.Meta), Correlator: c.Correlator, Items: itemsOf(c.Items)}
	case *syncml.Alert:
		w.Alert = &wireAlert{Code: c.Code, Correlator: c.Correlator, Items: itemsOf(c.Items)}
	case *syncml.Group:
		if depth >= maxDepth {
			return w, fmt.Errorf("%w: groups in groups, more than %d deep", ErrInvalid, maxDepth)
		}
		inner := make([]wireCommand, len(c.Commands))
		for i, one := range c.Commands {
			if inner[i], err = wireOf(one, depth+1); err != nil {
				return w, err
			}
		}
		if c.Atomic {
			w.Atomic = &inner
		} else {
			w.Sequence = &inner
		}
	default:
		return w, fmt.Errorf("%w: a %T is no command for a device", ErrInvalid, c)
	}
	return w, nil
}

func metaOf(m syncml.Meta) *wireMeta {
	if w := (wireMeta{m.Format, m.Type, m.Mark}); w != (wireMeta{}) {
		return &w
	}
	return nil
}

func (w *wireMeta) meta() syncml.Meta {
	if w == nil {
		return syncml.Meta{}
	}
	return syncml.Meta{Format: w.Format, Type: w.Type, Mark: w.Mark}
}

func itemsOf(items []syncml.Item) []wireItem {
	all := make([]wireItem, len(items))
	for n, i := range items {
		all[n] = wireItem{
			Target: i.Target.URI, TargetName: i.Target.Name, Source: i.Source.URI, SourceName: i.Source.Name,
			Meta: metaOf(i.Meta), Markup: i.Markup,
		}
		if i.HasData || len(i.Data) > 0 {
			data := orEmpty(i.Data)
			all[n].Data = &data
		}
	}
	return all
}

func items(all []wireItem) []syncml.Item {
	var items []syncml.Item
	for _, w := range all {
		i := syncml.Item{
			Target: syncml.Location{URI: w.Target, Name: w.TargetName}, Source: syncml.Location{URI: w.Source, Name: w.SourceName},
			Meta: w.Meta.meta(), Markup: w.Markup,
		}
		if w.Data != nil {
			i.Data, i.HasData = *w.Data, true
		}
		items = append(items, i)
	}
	return items
}

func unmarshalCommand(text []byte) (syncml.Command, error) {
	var w wireCommand
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, fmt.Errorf("stored command: %w", err)
	}
	return w.command(0)
}

func (w *wireCommand) command(depth int) (syncml.Command, error) {
	switch {
	case w.Op != nil:
		return &syncml.Op{Verb: w.Op.Verb, Meta: w.Op.Meta.meta(), Correlator: w.Op.Correlator, Items: items(w.Op.Items)}, nil
	case w.Alert != nil:
		return &syncml.Alert{Code: w.Alert.Code, Correlator: w.Alert.Correlator, Items: items(w.Alert.Items)}, nil
	case depth >= maxDepth:
	case w.Atomic != nil:
		return group(true, *w.Atomic, depth)
	case w.Sequence != nil:
		return group(false, *w.Sequence, depth)
	}
	return nil, fmt.Errorf("%w: stored command is none that this version knows", ErrInvalid)
}

func group(atomic bool, inner []wireCommand, depth int) (syncml.Command, error) {
	g := &syncml.Group{Atomic: atomic}
	for i := range inner {
		c, err := inner[i].command(depth + 1)
		if err != nil {
			return nil, err
		}
		g.Commands = append(g.Commands, c)
	}
	return g, nil
}

// wireQuery is a session.Query as it is stored.
type wireQuery struct {
	URI  string  `json:"uri"`
	Want *[]byte `json:"want,omitempty"`
	Gone bool    `json:"gone,omitempty"`
}

// marshalQuery returns nil for none.
func marshalQuery(q *session.Query) (any, error) {
	if q == nil {
		return nil, nil
	}
	w := wireQuery{URI: q.URI, Gone: q.Gone}
	if q.Want != nil {
		w.Want = &q.Want
	}
	text, err := json.Marshal(w)
	return string(text), err
}

func unmarshalQuery(text string) (*session.Query, error) {
	if text == "" {
		return nil, nil
	}
	var w wireQuery
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return nil, fmt.Errorf("stored query: %w", err)
	}
	q := &session.Query{URI: w.URI, Gone: w.Gone}
	if w.Want != nil {
		q.Want = orEmpty(*w.Want)
	}
	return q, nil
}
