package dm

import (
	"strconv"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// chunk is what a large object that we send has left.
type chunk struct {
	rest []byte
}

// next takes from the queue what fits into one message. final: it ends our
// package.
func (r *run) next() (m *syncml.Message, final bool) {
	r.msgID++
	m = &syncml.Message{
		Version: r.cfg.Version,
		Header: syncml.Header{
			SessionID: r.id, MsgID: strconv.Itoa(r.msgID), Cred: r.cred(),
			Target: syncml.Location{URI: r.cfg.URL}, Source: syncml.Location{URI: r.cfg.Device},
			Meta: syncml.Meta{MaxMsgSize: int64(r.cfg.MaxMsgSize), MaxObjSize: int64(r.cfg.MaxObjSize)},
		},
	}
	if m.Header.Cred != nil {
		m.Header.Source.Name = r.cfg.Account.Name
	}
	m.Final = true
	room := r.serverRoom()
	for _, e := range m.Document().Root.Children {
		room -= r.cfg.Syntax.Size(e)
	}
	room -= r.cfg.Syntax.Frame(m.Version)
	m.Final = false
	for id := 1; len(r.queue) > 0; id++ {
		c := r.queue[0]
		setID(c, id)
		size := r.cfg.Syntax.Size(syncml.CommandElement(c))
		if res, ok := c.(*syncml.Results); ok && (r.chunk != nil || size > room && len(m.Body) < 2) {
			if part, more := r.split(res, room); part != nil {
				m.Body = append(m.Body, part)
				if !more {
					r.queue = r.queue[1:]
				}
				if more {
					return m, false
				}
				room -= r.cfg.Syntax.Size(syncml.CommandElement(part))
				continue
			}
		}
		if size > room && len(m.Body) > 0 {
			return m, false
		}
		m.Body = append(m.Body, c)
		room -= size
		r.queue = r.queue[1:]
	}
	m.Final = !r.asked
	return m, m.Final
}

// serverRoom is what the server takes in a message.
func (r *run) serverRoom() int {
	if r.serverMsg > 0 {
		return r.serverMsg
	}
	return 1 << 20
}

// split makes the next chunk of a large object, nil if the rest is small enough
// or chunks don't help.
func (r *run) split(res *syncml.Results, room int) (part *syncml.Results, more bool) {
	if len(res.Items) != 1 {
		return nil, false
	}
	first := r.chunk == nil
	if first {
		r.chunk = &chunk{rest: res.Items[0].Data}
	}
	p := *res
	p.Items = []syncml.Item{res.Items[0]}
	i := &p.Items[0]
	i.Meta.Size = 0
	if first {
		i.Meta.Size = int64(len(r.chunk.rest))
		if r.cfg.Faults.ShortObject {
			i.Meta.Size++
		}
	} else {
		i.Meta.Format, i.Meta.Type = "", ""
	}
	i.MoreData, i.Data = true, []byte{'x'}
	room -= r.cfg.Syntax.Size(syncml.CommandElement(&p)) - 1
	n := 0
	for n < len(r.chunk.rest) && room > 0 {
		_, size := utf8.DecodeRune(r.chunk.rest[n:])
		cost := size
		if !r.cfg.Syntax.Binary() {
			cost = syncml.EscapedSize(r.chunk.rest[n : n+size])
		}
		if room -= cost; room >= 0 {
			n += size
		}
	}
	if n == 0 {
		r.chunk = nil
		return nil, false
	}
	i.Data, r.chunk.rest = r.chunk.rest[:n], r.chunk.rest[n:]
	if i.MoreData = len(r.chunk.rest) > 0; !i.MoreData {
		r.chunk = nil
	}
	return &p, i.MoreData
}

func setID(c syncml.Command, n int) {
	id := strconv.Itoa(n)
	switch c := c.(type) {
	case *syncml.Alert:
		c.CmdID = id
	case *syncml.Op:
		c.CmdID = id
	case *syncml.Status:
		c.CmdID = id
	case *syncml.Results:
		c.CmdID = id
	}
}
