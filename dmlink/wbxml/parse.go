package wbxml

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// WBXML is the binary syntax.
var WBXML syncml.Syntax = syntax{}

type syntax struct{}

func (syntax) Binary() bool { return true }

func (syntax) Parse(octets []byte, l syncml.Limits) (syncml.Document, error) {
	l = l.WithDefaults()
	if len(octets) > l.Octets {
		return syncml.Document{}, fmt.Errorf("%w: %d octets, at most %d", syncml.ErrTooLarge, len(octets), l.Octets)
	}
	p := parser{rest: octets, limits: l}
	return p.document()
}

type parser struct {
	rest   []byte
	table  []byte
	limits syncml.Limits
	page   syncml.Space
	// elements and text so far: references into the string table could
	// otherwise make much of little.
	elements, text int
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: WBXML: "+format, append([]any{syncml.ErrMalformed}, args...)...)
}

func (p *parser) octet() (byte, error) {
	if len(p.rest) == 0 {
		return 0, malformed("it ends too early")
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	return c, nil
}

// number is a multi-byte integer of at most 32 bits (WAP-192 section 5.1).
func (p *parser) number() (uint32, error) {
	var n uint64
	for range 5 {
		c, err := p.octet()
		if err != nil {
			return 0, err
		}
		if n = n<<7 | uint64(c&0x7F); n > 1<<32-1 {
			return 0, malformed("integer above 32 bits")
		}
		if c&0x80 == 0 {
			return uint32(n), nil
		}
	}
	return 0, malformed("integer of more than 5 octets")
}

// take returns the next n octets, which it doesn't copy.
func (p *parser) take(n uint32) ([]byte, error) {
	if uint64(n) > uint64(len(p.rest)) {
		return nil, malformed("%d octets announced, %d are there", n, len(p.rest))
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b, nil
}

// cString is what stands before the next NUL.
func cString(b []byte) ([]byte, int, error) {
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return nil, 0, malformed("string without an end")
	}
	if !utf8.Valid(b[:n]) {
		return nil, 0, malformed("string that is no UTF-8")
	}
	return b[:n], n + 1, nil
}

func (p *parser) fromTable(offset uint32) ([]byte, error) {
	if uint64(offset) >= uint64(len(p.table)) {
		return nil, malformed("offset %d into a string table of %d octets", offset, len(p.table))
	}
	s, _, err := cString(p.table[offset:])
	return s, err
}

func (p *parser) document() (syncml.Document, error) {
	version, err := p.header()
	if err != nil {
		return syncml.Document{}, err
	}
	t, err := p.tag()
	if err != nil {
		return syncml.Document{}, err
	}
	root, err := p.element(t, 1)
	if err != nil {
		return syncml.Document{}, err
	}
	if len(p.rest) > 0 {
		return syncml.Document{}, malformed("%d octets behind the document", len(p.rest))
	}
	return syncml.Document{Version: version, Root: root}, nil
}

// header reads version, public identifier, character set and string table.
func (p *parser) header() (syncml.Version, error) {
	v, err := p.octet()
	if err != nil {
		return 0, err
	}
	if v < oldestVersion || v > newestVersion {
		return 0, fmt.Errorf("%w: WBXML version %#02x", syncml.ErrForbidden, v)
	}
	public, err := p.number()
	if err != nil {
		return 0, err
	}
	var inTable uint32
	if public == 0 {
		if inTable, err = p.number(); err != nil {
			return 0, err
		}
	}
	charset, err := p.number()
	if err != nil {
		return 0, err
	}
	if charset != charsetUTF8 {
		return 0, fmt.Errorf("%w: character set %d, expected UTF-8 (%d)", syncml.ErrForbidden, charset, charsetUTF8)
	}
	n, err := p.number()
	if err != nil {
		return 0, err
	}
	if p.table, err = p.take(n); err != nil {
		return 0, err
	}
	// The last string of a table may lack its NUL.
	if n > 0 && p.table[n-1] != 0 {
		p.table = append(bytes.Clone(p.table), 0)
	}
	var name []byte
	if public == 0 {
		if name, err = p.fromTable(inTable); err != nil {
			return 0, err
		}
	}
	for version, id := range publicIDs {
		if public == id.number || public == 0 && string(name) == id.name {
			return syncml.Version(version), nil
		}
	}
	return 0, fmt.Errorf("%w: public identifier %#x %.64q", syncml.ErrForbidden, public, name)
}

// start of an element.
type start struct {
	space   syncml.Space
	name    string
	content bool
}

func (p *parser) tag() (start, error) {
	c, err := p.octet()
	if err != nil {
		return start{}, err
	}
	return p.tagFrom(c)
}

// tagFrom reads an element's tag, whose first octet c was taken, with the change
// of pages that may stand before it.
func (p *parser) tagFrom(c byte) (start, error) {
	for c == switchPage {
		page, err := p.octet()
		if err != nil {
			return start{}, err
		}
		if int(page) >= len(pages) {
			return start{}, malformed("code page %d", page)
		}
		p.page = syncml.Space(page)
		if c, err = p.octet(); err != nil {
			return start{}, err
		}
	}
	t := start{space: p.page, content: c&hasContent != 0}
	switch c &^ hasContent {
	case literal:
		offset, err := p.number()
		if err != nil {
			return start{}, err
		}
		name, err := p.fromTable(offset)
		if err != nil {
			return start{}, err
		}
		t.name = string(name)
		return t, p.countText(len(name))
	case end, entity, strI:
		return start{}, malformed("token %#02x where a tag belongs", c)
	}
	if c&hasAttributes != 0 {
		return start{}, fmt.Errorf("%w: WBXML token %#02x: attributes, extensions", syncml.ErrForbidden, c)
	}
	var ok bool
	if t.name, ok = tagName(p.page, c&tagMask); !ok {
		return start{}, malformed("tag %#02x of code page %d", c&tagMask, p.page)
	}
	return t, nil
}

func (p *parser) element(t start, depth int) (*syncml.Element, error) {
	if depth > p.limits.Depth {
		return nil, fmt.Errorf("%w: deeper than %d elements", syncml.ErrTooLarge, p.limits.Depth)
	}
	if p.elements++; p.elements > p.limits.Elements {
		return nil, fmt.Errorf("%w: more than %d elements", syncml.ErrTooLarge, p.limits.Elements)
	}
	e := &syncml.Element{Space: t.space, Name: t.name}
	if !t.content {
		return e, nil
	}
	for {
		c, err := p.octet()
		if err != nil {
			return nil, err
		}
		switch c {
		case end:
			if len(e.Children) > 0 && len(bytes.TrimSpace(e.Text)) > 0 {
				return nil, malformed("text between the elements of %s", e.Name)
			}
			if len(e.Children) > 0 {
				e.Text = nil
			}
			return e, nil
		case entity, strI, strT, opaque:
			if err := p.appendText(e, c); err != nil {
				return nil, err
			}
		default:
			t, err := p.tagFrom(c)
			if err != nil {
				return nil, err
			}
			child, err := p.element(t, depth+1)
			if err != nil {
				return nil, err
			}
			e.Children = append(e.Children, child)
		}
	}
}

func (p *parser) countText(n int) error {
	if p.text += n; p.text > p.limits.Octets {
		return fmt.Errorf("%w: more than %d octets of text", syncml.ErrTooLarge, p.limits.Octets)
	}
	return nil
}

// appendText reads what token announces.
func (p *parser) appendText(e *syncml.Element, token byte) error {
	var text []byte
	var err error
	switch token {
	case strI:
		var n int
		if text, n, err = cString(p.rest); err == nil {
			p.rest = p.rest[n:]
		}
	case strT, opaque, entity:
		var n uint32
		if n, err = p.number(); err != nil {
			return err
		}
		switch token {
		case strT:
			text, err = p.fromTable(n)
		case opaque:
			text, err = p.take(n)
		default:
			if n > utf8.MaxRune || !utf8.ValidRune(rune(n)) || n == 0 {
				return malformed("character %#x", n)
			}
			text = utf8.AppendRune(nil, rune(n))
		}
	}
	if err != nil {
		return err
	}
	e.Text = append(e.Text, text...)
	return p.countText(len(text))
}
