package syncml

import (
	"encoding/base64"
	"strconv"
)

// Document of the message. Elements stand in the order of the DTD, which some
// clients insist on.
func (m *Message) Document() Document {
	body := &Element{Name: "SyncBody"}
	for _, c := range m.Body {
		body.add(CommandElement(c))
	}
	if m.Final {
		body.add(&Element{Name: "Final"})
	}
	return Document{Version: m.Version, Root: &Element{Name: "SyncML", Children: []*Element{m.Header.element(m.Version), body}}}
}

// CommandElement is what c becomes in a document.
func CommandElement(c Command) *Element {
	e := &Element{Name: c.Name()}
	e.leaf("CmdID", c.ID())
	switch c := c.(type) {
	case *Alert:
		e.flag("NoResp", c.NoResp)
		e.add(c.Cred.element())
		if c.Code != 0 {
			e.leaf("Data", strconv.Itoa(c.Code))
		}
		e.leaf("Correlator", c.Correlator)
		e.items(c.Items)
	case *Op:
		e.flag("NoResp", c.NoResp)
		e.add(c.Cred.element())
		e.add(c.Meta.element())
		e.leaf("Correlator", c.Correlator)
		e.items(c.Items)
	case *Group:
		e.flag("NoResp", c.NoResp)
		e.add(c.Meta.element())
		for _, inner := range c.Commands {
			e.add(CommandElement(inner))
		}
	case *Status:
		e.leaf("MsgRef", c.MsgRef)
		e.leaf("CmdRef", c.CmdRef)
		e.leaf("Cmd", c.Cmd)
		for _, r := range c.TargetRefs {
			e.leaf("TargetRef", r)
		}
		for _, r := range c.SourceRef {
			e.leaf("SourceRef", r)
		}
		e.add(c.Cred.element())
		if c.Chal != nil {
			e.add((&Element{Name: "Chal"}).add(c.Chal.Meta.element()))
		}
		e.leaf("Data", strconv.Itoa(c.Code))
		e.items(c.Items)
	case *Results:
		e.leaf("MsgRef", c.MsgRef)
		e.leaf("CmdRef", c.CmdRef)
		e.add(c.Meta.element())
		e.leaf("TargetRef", c.TargetRef)
		e.leaf("SourceRef", c.SourceRef)
		e.items(c.Items)
	case *Unknown:
	}
	return e
}

// add appends children and drops nil ones.
func (e *Element) add(child *Element) *Element {
	if child != nil {
		e.Children = append(e.Children, child)
	}
	return e
}

// leaf appends an element with text, unless that is empty.
func (e *Element) leaf(name, text string) {
	if text != "" {
		e.add(&Element{Space: e.Space, Name: name, Text: []byte(text)})
	}
}

func (e *Element) flag(name string, set bool) {
	if set {
		e.add(&Element{Name: name})
	}
}

func (e *Element) items(items []Item) {
	for i := range items {
		e.add(items[i].element())
	}
}

func (h *Header) element(v Version) *Element {
	e := &Element{Name: "SyncHdr"}
	dtd, proto := h.VerDTD, h.VerProto
	if dtd == "" {
		dtd = v.DTD()
	}
	if proto == "" {
		proto = v.Proto()
	}
	e.leaf("VerDTD", dtd)
	e.leaf("VerProto", proto)
	e.leaf("SessionID", h.SessionID)
	e.leaf("MsgID", h.MsgID)
	e.add(h.Target.element("Target"))
	e.add(h.Source.element("Source"))
	e.leaf("RespURI", h.RespURI)
	e.flag("NoResp", h.NoResp)
	e.add(h.Cred.element())
	e.add(h.Meta.element())
	return e
}

func (l Location) element(name string) *Element {
	if l == (Location{}) {
		return nil
	}
	e := &Element{Name: name}
	e.leaf("LocURI", l.URI)
	e.leaf("LocName", l.Name)
	return e
}

func (c *Cred) element() *Element {
	if c == nil {
		return nil
	}
	e := (&Element{Name: "Cred"}).add(c.Meta.element())
	return e.add(&Element{Name: "Data", Text: c.Data})
}

func (m Meta) element() *Element {
	if m.isZero() {
		return nil
	}
	e := &Element{Space: MetInf}
	e.leaf("Format", m.Format)
	e.leaf("Type", m.Type)
	e.leaf("Mark", m.Mark)
	e.number("Size", m.Size)
	if len(m.NextNonce) > 0 {
		e.leaf("NextNonce", base64.StdEncoding.EncodeToString(m.NextNonce))
	}
	e.number("MaxMsgSize", m.MaxMsgSize)
	e.number("MaxObjSize", m.MaxObjSize)
	e.Space, e.Name = SyncML, "Meta"
	return e
}

func (e *Element) number(name string, n int64) {
	if n != 0 {
		e.leaf(name, strconv.FormatInt(n, 10))
	}
}

func (i *Item) element() *Element {
	e := &Element{Name: "Item"}
	e.add(i.Target.element("Target"))
	e.add(i.Source.element("Source"))
	e.add(i.Meta.element())
	if i.HasData || len(i.Data) > 0 {
		e.add(&Element{Name: "Data", Text: i.Data, Markup: i.Markup && len(i.Data) > 0})
	}
	e.flag("MoreData", i.MoreData)
	return e
}
