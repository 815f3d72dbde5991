package syncml

import (
	"bytes"
	"fmt"
)

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

// maxGroups is how deep groups may lie in each other.
const maxGroups = 4

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
