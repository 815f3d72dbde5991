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
