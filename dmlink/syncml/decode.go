package syncml

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// maxToken bounds what is a name, an identifier or a number: none of them is
// longer than a URI, and those end at 127 octets on most devices.
const maxToken = 4096

// Decode makes a message of a document. It is strict about structure: an
// element that has no place where it stands, twice what may be there once, and
// text where elements belong are errors. Two things are forgiven, because
// clients do them: MetInf elements in another namespace, and elements of other
// namespaces, which are skipped.
func Decode(doc Document, l Limits) (*Message, error) {
	d := decoder{left: l.WithDefaults().Commands}
	m := &Message{Version: doc.Version}
	if doc.Root == nil || doc.Root.Space != SyncML || doc.Root.Name != "SyncML" {
		return nil, fmt.Errorf("%w: the root is no SyncML element", ErrMalformed)
	}
	var header, body bool
	err := d.children(doc.Root, func(e *Element) error {
		switch {
		case e.Name == "SyncHdr" && !header:
			header = true
			return d.header(e, &m.Header)
		case e.Name == "SyncBody" && header && !body:
			body = true
			return d.body(e, m)
		}
		return misplaced(e)
	})
	switch {
	case err != nil:
		return nil, err
	case !body:
		return nil, fmt.Errorf("%w: no SyncHdr and SyncBody", ErrMalformed)
	case m.Header.SessionID == "":
		return nil, fmt.Errorf("%w: no SessionID", ErrMalformed)
	case m.Header.MsgID == "":
		return nil, fmt.Errorf("%w: no MsgID", ErrMalformed)
	}
	if m.Header.VerDTD == V11.DTD() {
		m.Version = V11
	}
	return m, nil
}

type decoder struct {
	// left is how many commands may still come.
	left int
	// seen are names of the element that is being read.
	seen []string
}

// once reports whether name comes for the first time in this element.
func (d *decoder) once(name string) bool {
	for _, s := range d.seen {
		if s == name {
			return false
		}
	}
	d.seen = append(d.seen, name)
	return true
}

func misplaced(e *Element) error {
	return fmt.Errorf("%w: %.64q has no place here, or was there before", ErrMalformed, e.Name)
}

// children calls f for each child of ours, with a memory for once of its own.
func (d *decoder) children(e *Element, f func(*Element) error) error {
	if len(e.Children) == 0 && len(bytes.TrimSpace(e.Text)) > 0 {
		return fmt.Errorf("%w: text in %s", ErrMalformed, e.Name)
	}
	outer := d.seen
	d.seen = nil
	for _, c := range e.Children {
		if c.Space == Foreign {
			continue
		}
		if err := f(c); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	d.seen = outer
	return nil
}

// token is the text of a leaf that names something.
func token(e *Element) (string, error) {
	text := bytes.TrimSpace(e.Text)
	switch {
	case len(e.Children) > 0:
		return "", fmt.Errorf("%w: elements in %s", ErrMalformed, e.Name)
	case len(text) > maxToken:
		return "", fmt.Errorf("%w: %s of %d octets", ErrTooLarge, e.Name, len(text))
	case !IsText(text):
		return "", fmt.Errorf("%w: %s is no text", ErrMalformed, e.Name)
	}
	return string(text), nil
}

func number(e *Element, most int64) (int64, error) {
	s, err := token(e)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || int64(n) > most {
		return 0, fmt.Errorf("%w: %s is %.20q, not a number up to %d", ErrMalformed, e.Name, s, most)
	}
	return int64(n), nil
}

// leaf puts the text of e into field, once.
func (d *decoder) leaf(e *Element, field *string) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	s, err := token(e)
	*field = s
	return err
}

// flag is an empty element.
func (d *decoder) flag(e *Element, field *bool) error {
	if len(e.Children) > 0 || len(bytes.TrimSpace(e.Text)) > 0 {
		return fmt.Errorf("%w: %s isn't empty", ErrMalformed, e.Name)
	}
	*field = true
	return nil
}

func (d *decoder) header(e *Element, h *Header) error {
	return d.children(e, func(c *Element) error {
		switch c.Name {
		case "VerDTD":
			return d.leaf(c, &h.VerDTD)
		case "VerProto":
			return d.leaf(c, &h.VerProto)
		case "SessionID":
			return d.leaf(c, &h.SessionID)
		case "MsgID":
			return d.leaf(c, &h.MsgID)
		case "Target":
			return d.location(c, &h.Target)
		case "Source":
			return d.location(c, &h.Source)
		case "RespURI":
			return d.leaf(c, &h.RespURI)
		case "NoResp":
			return d.flag(c, &h.NoResp)
		case "Cred":
			return d.cred(c, &h.Cred)
		case "Meta":
			return d.meta(c, &h.Meta)
		}
		return misplaced(c)
	})
}

func (d *decoder) location(e *Element, l *Location) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	return d.children(e, func(c *Element) error {
		switch c.Name {
		case "LocURI":
			return d.leaf(c, &l.URI)
		case "LocName":
			return d.leaf(c, &l.Name)
		case "Filter": // data synchronization
			return nil
		}
		return misplaced(c)
	})
}

func (d *decoder) cred(e *Element, into **Cred) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	cred := new(Cred)
	*into = cred
	return d.children(e, func(c *Element) error {
		switch c.Name {
		case "Meta":
			return d.meta(c, &cred.Meta)
		case "Data":
			if !d.once("Data") {
				return misplaced(c)
			}
			s, err := token(c)
			cred.Data = []byte(s)
			return err
		}
		return misplaced(c)
	})
}

func (d *decoder) chal(e *Element, into **Chal) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	*into = new(Chal)
	return d.children(e, func(c *Element) error {
		if c.Name != "Meta" {
			return misplaced(c)
		}
		return d.meta(c, &(*into).Meta)
	})
}

func (d *decoder) meta(e *Element, m *Meta) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	// A MetInf document is the same once more.
	if len(e.Children) == 1 && e.Children[0].Name == "MetInf" {
		e = e.Children[0]
	}
	return d.children(e, func(c *Element) error { return d.metInf(c, m) })
}

// metInf reads one element of a Meta. Windows puts some into the Item itself.
func (d *decoder) metInf(c *Element, m *Meta) (err error) {
	switch c.Name {
	case "Format":
		return d.leaf(c, &m.Format)
	case "Type":
		return d.leaf(c, &m.Type)
	case "Mark":
		return d.leaf(c, &m.Mark)
	case "NextNonce":
		var s string
		if err := d.leaf(c, &s); err != nil {
			return err
		}
		m.NextNonce, err = decodeBase64(s)
		return err
	case "Size", "MaxMsgSize", "MaxObjSize":
		if !d.once(c.Name) {
			return misplaced(c)
		}
		field := map[string]*int64{"Size": &m.Size, "MaxMsgSize": &m.MaxMsgSize, "MaxObjSize": &m.MaxObjSize}[c.Name]
		*field, err = number(c, 1<<53)
		return err
	case "Anchor", "Version", "EMI", "FieldLevel", "FreeID", "FreeMem", "Mem", "SharedMem", "Last", "Next":
		return nil
	}
	if c.Space == SyncML {
		return misplaced(c)
	}
	return nil
}

// decodeBase64 takes the standard alphabet with or without padding, as some
// clients leave it out, and ignores white space.
func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(strings.Join(strings.Fields(s), ""), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: base64: %w", ErrMalformed, err)
	}
	return b, nil
}

func (d *decoder) body(e *Element, m *Message) error {
	return d.children(e, func(c *Element) error {
		if c.Name == "Final" {
			if !d.once("Final") {
				return misplaced(c)
			}
			return d.flag(c, &m.Final)
		}
		if m.Final {
			return fmt.Errorf("%w: %.64q after Final", ErrMalformed, c.Name)
		}
		cmd, err := d.command(c, true)
		m.Body = append(m.Body, cmd)
		return err
	})
}

// maxGroups is how deep groups may lie in each other.
const maxGroups = 4

func (d *decoder) command(e *Element, top bool) (Command, error) {
	if d.left--; d.left < 0 {
		return nil, fmt.Errorf("%w: too many commands", ErrTooLarge)
	}
	switch e.Name {
	case "Add", "Copy", "Delete", "Exec", "Get", "Replace":
		return d.op(e)
	case "Alert":
		return d.alert(e)
	case "Atomic", "Sequence":
		return d.group(e)
	case "Status":
		if top {
			return d.status(e)
		}
	case "Results":
		if top {
			return d.results(e)
		}
	}
	// Another command, or none: known by its name and ID alone.
	u := &Unknown{Element: e.Name}
	if len(u.Element) > 64 {
		u.Element = u.Element[:64]
	}
	for _, c := range e.Children {
		if c.Name == "CmdID" && u.CmdID == "" {
			u.CmdID, _ = token(c)
		}
	}
	return u, nil
}

func (d *decoder) alert(e *Element) (Command, error) {
	a := new(Alert)
	return a, d.children(e, func(c *Element) error {
		switch c.Name {
		case "CmdID":
			return d.leaf(c, &a.CmdID)
		case "NoResp":
			return d.flag(c, &a.NoResp)
		case "Cred":
			return d.cred(c, &a.Cred)
		case "Correlator":
			return d.leaf(c, &a.Correlator)
		case "Data":
			return d.code(c, &a.Code)
		case "Item":
			return d.item(c, &a.Items)
		}
		return misplaced(c)
	})
}

func (d *decoder) code(e *Element, code *int) error {
	if !d.once(e.Name) {
		return misplaced(e)
	}
	n, err := number(e, 9999)
	*code = int(n)
	return err
}

func (d *decoder) op(e *Element) (Command, error) {
	o := &Op{Verb: Verb(e.Name)}
	return o, d.children(e, func(c *Element) error {
		switch c.Name {
		case "CmdID":
			return d.leaf(c, &o.CmdID)
		case "NoResp":
			return d.flag(c, &o.NoResp)
		case "Cred":
			return d.cred(c, &o.Cred)
		case "Meta":
			return d.meta(c, &o.Meta)
		case "Correlator":
			return d.leaf(c, &o.Correlator)
		case "Item":
			return d.item(c, &o.Items)
		case "Lang", "Archive", "SftDel": // data synchronization
			return nil
		}
		return misplaced(c)
	})
}

func (d *decoder) group(e *Element) (Command, error) {
	g := &Group{Atomic: e.Name == "Atomic"}
	if groupDepth(e) > maxGroups {
		return nil, fmt.Errorf("%w: more than %d groups in each other", ErrTooLarge, maxGroups)
	}
	return g, d.children(e, func(c *Element) error {
		switch c.Name {
		case "CmdID":
			return d.leaf(c, &g.CmdID)
		case "NoResp":
			return d.flag(c, &g.NoResp)
		case "Meta":
			return d.meta(c, &g.Meta)
		}
		cmd, err := d.command(c, false)
		g.Commands = append(g.Commands, cmd)
		return err
	})
}

func groupDepth(e *Element) int {
	deepest := 0
	for _, c := range e.Children {
		if c.Name == "Atomic" || c.Name == "Sequence" {
			deepest = max(deepest, groupDepth(c))
		}
	}
	return deepest + 1
}

func (d *decoder) status(e *Element) (Command, error) {
	s := new(Status)
	return s, d.children(e, func(c *Element) error {
		switch c.Name {
		case "CmdID":
			return d.leaf(c, &s.CmdID)
		case "MsgRef":
			return d.leaf(c, &s.MsgRef)
		case "CmdRef":
			return d.leaf(c, &s.CmdRef)
		case "Cmd":
			return d.leaf(c, &s.Cmd)
		case "TargetRef":
			return reference(c, &s.TargetRefs)
		case "SourceRef":
			return reference(c, &s.SourceRef)
		case "Cred":
			return d.cred(c, &s.Cred)
		case "Chal":
			return d.chal(c, &s.Chal)
		case "Data":
			return d.code(c, &s.Code)
		case "Item":
			return d.item(c, &s.Items)
		}
		return misplaced(c)
	})
}

func reference(e *Element, refs *[]string) error {
	s, err := token(e)
	*refs = append(*refs, s)
	return err
}

func (d *decoder) results(e *Element) (Command, error) {
	r := new(Results)
	return r, d.children(e, func(c *Element) error {
		switch c.Name {
		case "CmdID":
			return d.leaf(c, &r.CmdID)
		case "MsgRef":
			return d.leaf(c, &r.MsgRef)
		case "CmdRef":
			return d.leaf(c, &r.CmdRef)
		case "Meta":
			return d.meta(c, &r.Meta)
		case "TargetRef":
			return d.leaf(c, &r.TargetRef)
		case "SourceRef":
			return d.leaf(c, &r.SourceRef)
		case "Item":
			return d.item(c, &r.Items)
		}
		return misplaced(c)
	})
}

func (d *decoder) item(e *Element, items *[]Item) error {
	if d.left--; d.left < 0 {
		return fmt.Errorf("%w: too many commands and items", ErrTooLarge)
	}
	var i Item
	err := d.children(e, func(c *Element) error {
		switch c.Name {
		case "Target":
			return d.location(c, &i.Target)
		case "Source":
			return d.location(c, &i.Source)
		case "Meta":
			return d.meta(c, &i.Meta)
		case "MoreData":
			return d.flag(c, &i.MoreData)
		case "SourceParent", "TargetParent": // data synchronization
			return nil
		case "Data":
			if !d.once("Data") {
				return misplaced(c)
			}
			if len(c.Children) > 0 {
				return fmt.Errorf("%w: elements in Data", ErrMalformed)
			}
			i.Data, i.Markup, i.HasData = bytes.Clone(c.Text), c.Markup, true
			return nil
		}
		if c.Space == MetInf {
			return d.metInf(c, &i.Meta)
		}
		return misplaced(c)
	})
	*items = append(*items, i)
	return err
}
