package dm

import (
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// object is a large one that comes in chunks.
type object struct {
	verb syncml.Verb
	item syncml.Item
}

// command executes what the server wants and queues its statuses and results.
func (r *run) command(m *syncml.Message, c syncml.Command) error {
	r.summary.Commands++
	switch c := c.(type) {
	case *syncml.Op:
		return r.op(m, c)
	case *syncml.Group:
		if c.Atomic {
			return r.atomic(m, c)
		}
		r.status(m, &syncml.Status{CmdRef: c.CmdID, Cmd: c.Name(), Code: syncml.StatusOK})
		for _, inner := range c.Commands {
			if err := r.command(m, inner); err != nil {
				return err
			}
		}
	default:
		r.status(m, &syncml.Status{CmdRef: c.ID(), Cmd: c.Name(), Code: syncml.StatusNotAllowed})
	}
	return nil
}

func (r *run) op(m *syncml.Message, o *syncml.Op) error {
	codes, results, err := r.items(m, o)
	if err != nil {
		return err
	}
	r.statuses(m, o, codes)
	for _, entries := range results {
		r.results(m, o, entries)
	}
	return nil
}

// statuses of an Op: one for each item if there are several.
func (r *run) statuses(m *syncml.Message, o *syncml.Op, codes []int) {
	for n, code := range codes {
		st := &syncml.Status{CmdRef: o.CmdID, Cmd: o.Name(), Code: code}
		if len(o.Items) > 1 {
			st.TargetRefs = []string{o.Items[n].Target.URI}
		}
		if o.CmdID == "" {
			st.Code = syncml.StatusBadRequest
		}
		r.status(m, st)
	}
}

// items executes each item of an Op.
func (r *run) items(m *syncml.Message, o *syncml.Op) (codes []int, results [][]tree.Entry, err error) {
	if len(o.Items) == 0 {
		return []int{syncml.StatusIncompleteCommand}, nil, nil
	}
	for _, i := range o.Items {
		if i.Meta.Format == "" {
			i.Meta.Format = o.Meta.Format
		}
		if i.Meta.Type == "" {
			i.Meta.Type = o.Meta.Type
		}
		whole, code := r.assemble(o.Verb, i)
		if code == 0 {
			var entries []tree.Entry
			if code, entries, err = r.item(m, o, whole); err != nil {
				return nil, nil, err
			}
			if entries != nil {
				results = append(results, entries)
			}
		}
		codes = append(codes, code)
	}
	return codes, results, nil
}

// assemble puts chunks together. A code other than 0 is all there is to say.
func (r *run) assemble(verb syncml.Verb, i syncml.Item) (syncml.Item, int) {
	switch {
	case r.object == nil && !i.MoreData:
		return i, 0
	case r.object == nil:
		if most := r.cfg.MaxObjSize; most > 0 && i.Meta.Size > int64(most) {
			return i, syncml.StatusSizeTooBig
		}
		if i.Meta.Size == 0 {
			return i, syncml.StatusIncompleteCommand
		}
		r.object = &object{verb: verb, item: i}
		r.object.item.Data = nil
	case r.object.verb != verb || r.object.item.Target != i.Target:
		r.object = nil
		r.queue = append(r.queue, &syncml.Alert{Code: syncml.AlertNoEndOfData})
		return i, syncml.StatusIncompleteCommand
	}
	whole := &r.object.item
	whole.Data, whole.HasData = append(whole.Data, i.Data...), true
	if i.MoreData {
		return i, syncml.StatusChunkAccepted
	}
	r.object = nil
	if whole.MoreData = false; int64(len(whole.Data)) != whole.Meta.Size {
		return i, syncml.StatusSizeMismatch
	}
	return *whole, 0
}

// item executes one item. What changes something goes into the journal first.
func (r *run) item(m *syncml.Message, o *syncml.Op, i syncml.Item) (int, []tree.Entry, error) {
	uri, now, server := i.Target.URI, r.cfg.Now(), r.cfg.Server
	if code := r.cfg.Faults.Fail[uri]; code != 0 {
		return code, nil, nil
	}
	u, err := tree.ParseURI(uri)
	if err != nil {
		return syncml.StatusBadRequest, nil, nil
	}
	if o.Verb == syncml.Get {
		entries, code := r.cfg.Tree.Get(server, u, now)
		return code, entries, nil
	}
	lie := r.cfg.Faults.Lie[uri]
	if r.cfg.Journal != nil {
		e := Entry{
			Device: r.cfg.Device, Session: r.id, Message: m.Header.MsgID, Command: o.CmdID,
			Verb: o.Verb, URI: uri, Data: string(i.Data), Lied: lie,
		}
		if err := r.cfg.Journal.Write(e); err != nil {
			return 0, nil, err
		}
	}
	if lie {
		return syncml.StatusOK, nil, nil
	}
	value := tree.Value{Format: i.Meta.Format, Type: i.Meta.Type, Data: i.Data}
	t := r.cfg.Tree
	switch o.Verb {
	case syncml.Add:
		return t.Add(server, u, value, now), nil, nil
	case syncml.Replace:
		return t.Replace(server, u, value, now), nil, nil
	case syncml.Delete:
		return t.Delete(server, u, now), nil, nil
	case syncml.Copy:
		source, err := tree.ParseURI(i.Source.URI)
		if err != nil {
			return syncml.StatusBadRequest, nil, nil
		}
		return t.Copy(server, source, u, now), nil, nil
	case syncml.Exec:
		code := t.Exec(server, u, i.Data, now)
		if r.cfg.Faults.CrashAfter == uri {
			return 0, nil, ErrCrashed
		}
		return code, nil, nil
	case syncml.Get:
	}
	return syncml.StatusNotAllowed, nil, nil
}

func (r *run) get(uri string) ([]tree.Entry, int) {
	u, err := tree.ParseURI(uri)
	if err != nil {
		return nil, syncml.StatusBadRequest
	}
	return r.cfg.Tree.Get(r.cfg.Server, u, r.cfg.Now())
}

// results queues what a Get returned, an item for each node.
func (r *run) results(m *syncml.Message, o *syncml.Op, entries []tree.Entry) {
	for _, e := range entries {
		item := syncml.Item{
			Source: syncml.Location{URI: e.URI}, Data: e.Value.Data, HasData: true,
			Meta: syncml.Meta{Format: e.Value.Format, Type: e.Value.Type},
		}
		r.queue = append(r.queue, &syncml.Results{MsgRef: m.Header.MsgID, CmdRef: o.CmdID, Items: []syncml.Item{item}})
	}
}

// atomic executes all commands of a group or none, as Windows does it: what lies
// in it may not be another Atomic, nor a Get.
func (r *run) atomic(m *syncml.Message, g *syncml.Group) error {
	t := r.cfg.Tree
	t.Begin()
	parent := len(r.queue)
	r.status(m, &syncml.Status{CmdRef: g.CmdID, Cmd: g.Name(), Code: syncml.StatusOK})
	failed := false
	first := len(r.queue)
	for _, c := range g.Commands {
		r.summary.Commands++
		o, ok := c.(*syncml.Op)
		switch {
		case failed:
			r.status(m, &syncml.Status{CmdRef: c.ID(), Cmd: c.Name(), Code: syncml.StatusNotExecuted})
		case !ok || o.Verb == syncml.Get:
			failed = true
			r.status(m, &syncml.Status{CmdRef: c.ID(), Cmd: c.Name(), Code: syncml.StatusCommandFailed})
		default:
			codes, _, err := r.items(m, o)
			if err != nil {
				t.Rollback()
				return err
			}
			r.statuses(m, o, codes)
			for _, code := range codes {
				failed = failed || code < 200 || code > 299
			}
		}
	}
	if !failed {
		t.Commit()
		return nil
	}
	t.Rollback()
	r.queue[parent].(*syncml.Status).Code = syncml.StatusAtomicFailed
	for _, c := range r.queue[first:] {
		if st := c.(*syncml.Status); st.Code >= 200 && st.Code < 300 && st.Code != syncml.StatusNotExecuted {
			st.Code = syncml.StatusRolledBack
			if st.Cmd == string(syncml.Exec) {
				st.Code = syncml.StatusRollBackFailed
			}
		}
	}
	return nil
}
