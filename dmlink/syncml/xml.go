package syncml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// XML is the textual syntax, application/vnd.syncml.dm+xml.
var XML Syntax = xmlSyntax{}

type xmlSyntax struct{}

func (xmlSyntax) Binary() bool { return false }

// maxAttributes of one element; clients need a few for namespaces.
const maxAttributes = 16

func (xmlSyntax) Parse(octets []byte, l Limits) (Document, error) {
	l = l.WithDefaults()
	if len(octets) > l.Octets {
		return Document{}, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, len(octets), l.Octets)
	}
	octets = bytes.TrimPrefix(octets, []byte("\xef\xbb\xbf"))
	p := xmlParser{octets: octets, d: xml.NewDecoder(bytes.NewReader(octets)), limits: l}
	p.d.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("%w: character set %q", ErrForbidden, charset)
	}
	return p.document()
}

type xmlParser struct {
	octets   []byte
	d        *xml.Decoder
	limits   Limits
	elements int
}

// token returns the next token and where it begins. Comments are skipped;
// document types would define entities and are refused with all other
// directives.
func (p *xmlParser) token() (xml.Token, int64, error) {
	for {
		at := p.d.InputOffset()
		t, err := p.d.Token()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrForbidden):
			return nil, at, err
		case err != nil:
			return nil, at, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		switch t := t.(type) {
		case xml.Comment:
		case xml.Directive:
			return nil, at, fmt.Errorf("%w: document type or other directive at octet %d", ErrForbidden, at)
		case xml.ProcInst:
			if t.Target != "xml" || at != 0 {
				return nil, at, fmt.Errorf("%w: processing instruction at octet %d", ErrForbidden, at)
			}
		case xml.StartElement:
			if p.elements++; p.elements > p.limits.Elements {
				return nil, at, fmt.Errorf("%w: more than %d elements", ErrTooLarge, p.limits.Elements)
			}
			if len(t.Attr) > maxAttributes {
				return nil, at, fmt.Errorf("%w: %d attributes at octet %d", ErrTooLarge, len(t.Attr), at)
			}
			return t, at, nil
		default:
			return t, at, nil
		}
	}
}

func (p *xmlParser) document() (Document, error) {
	var doc Document
	for {
		t, at, err := p.token()
		if errors.Is(err, io.EOF) {
			if doc.Root == nil {
				return Document{}, fmt.Errorf("%w: no document", ErrMalformed)
			}
			return doc, nil
		}
		if err != nil {
			return Document{}, err
		}
		switch t := t.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return Document{}, fmt.Errorf("%w: text outside the document at octet %d", ErrMalformed, at)
			}
		case xml.StartElement:
			if doc.Root != nil {
				return Document{}, fmt.Errorf("%w: second document at octet %d", ErrMalformed, at)
			}
			if strings.EqualFold(t.Name.Space, V11.Namespace()) {
				doc.Version = V11
			}
			if doc.Root, err = p.element(t, 1); err != nil {
				return Document{}, err
			}
		}
	}
}

// element reads until the end tag of start.
func (p *xmlParser) element(start xml.StartElement, depth int) (*Element, error) {
	if depth > p.limits.Depth {
		return nil, fmt.Errorf("%w: deeper than %d elements", ErrTooLarge, p.limits.Depth)
	}
	e := &Element{Space: spaceOf(start.Name.Space), Name: start.Name.Local}
	if e.Space == SyncML && e.Name == "Data" {
		return e, p.data(e, depth)
	}
	for {
		t, at, err := p.token()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: %s doesn't end", ErrMalformed, e.Name)
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.CharData:
			e.Text = append(e.Text, t...)
		case xml.StartElement:
			child, err := p.element(t, depth+1)
			if err != nil {
				return nil, err
			}
			e.Children = append(e.Children, child)
		case xml.EndElement:
			if len(e.Children) > 0 {
				if len(bytes.TrimSpace(e.Text)) > 0 {
					return nil, fmt.Errorf("%w: text between the elements of %s before octet %d", ErrMalformed, e.Name, at)
				}
				e.Text = nil
			}
			return e, nil
		}
	}
}

// data reads the content of Data: text, or markup, which is kept as it stands.
func (p *xmlParser) data(e *Element, depth int) error {
	begin, open := p.d.InputOffset(), 0
	for {
		t, at, err := p.token()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: Data doesn't end", ErrMalformed)
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.CharData:
			if !e.Markup {
				e.Text = append(e.Text, t...)
			}
		case xml.StartElement:
			if open++; depth+open > p.limits.Depth {
				return fmt.Errorf("%w: deeper than %d elements", ErrTooLarge, p.limits.Depth)
			}
			e.Markup, e.Text = true, nil
		case xml.EndElement:
			if open--; open < 0 {
				if e.Markup {
					e.Text = bytes.Clone(p.octets[begin:at])
				}
				return nil
			}
		}
	}
}

// spaceOf is lenient: clients disagree in case, and some name no namespace.
func spaceOf(namespace string) Space {
	switch {
	case namespace == "", len(namespace) > 7 && strings.EqualFold(namespace[:7], "syncml:") && strings.HasPrefix(strings.ToLower(namespace[7:]), "syncml1."):
		return SyncML
	case strings.EqualFold(namespace, metInfNamespace):
		return MetInf
	}
	return Foreign
}

func (xmlSyntax) Append(dst []byte, doc Document) ([]byte, error) {
	if doc.Root == nil || doc.Root.Name != "SyncML" {
		return nil, fmt.Errorf("%w: the root is no SyncML element", ErrMalformed)
	}
	dst = append(dst, `<SyncML xmlns="`...)
	dst = append(dst, doc.Version.Namespace()...)
	dst = append(dst, `">`...)
	var err error
	for _, c := range doc.Root.Children {
		if dst, err = appendXML(dst, c, SyncML); err != nil {
			return nil, err
		}
	}
	return append(dst, `</SyncML>`...), nil
}

func (xmlSyntax) Frame(v Version) int {
	return len(`<SyncML xmlns="">`) + len(v.Namespace()) + len(`</SyncML>`)
}

// appendXML writes e, whose parent is of the space in.
func appendXML(dst []byte, e *Element, in Space) ([]byte, error) {
	dst = append(append(dst, '<'), e.Name...)
	if e.Space == MetInf && in != MetInf {
		dst = append(append(append(dst, ` xmlns="`...), metInfNamespace...), '"')
	}
	if len(e.Children) == 0 && len(e.Text) == 0 {
		return append(dst, `/>`...), nil
	}
	dst = append(dst, '>')
	switch {
	case e.Markup:
		dst = append(dst, e.Text...)
	case len(e.Children) == 0:
		var err error
		if dst, err = appendText(dst, e.Text); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	var err error
	for _, c := range e.Children {
		if dst, err = appendXML(dst, c, e.Space); err != nil {
			return nil, err
		}
	}
	return append(append(append(dst, `</`...), e.Name...), '>'), nil
}

func (xmlSyntax) Size(e *Element) int { return xmlSize(e, SyncML) }

func xmlSize(e *Element, in Space) int {
	n := len(`<`) + len(e.Name)
	if e.Space == MetInf && in != MetInf {
		n += len(` xmlns=""`) + len(metInfNamespace)
	}
	if len(e.Children) == 0 && len(e.Text) == 0 {
		return n + len(`/>`)
	}
	n += len(`></>`) + len(e.Name)
	switch {
	case e.Markup:
		n += len(e.Text)
	case len(e.Children) == 0:
		n += EscapedSize(e.Text)
	}
	for _, c := range e.Children {
		n += xmlSize(c, e.Space)
	}
	return n
}

// escape of an octet in text; the others stand for themselves. A carriage
// return would be read as a line feed.
func escape(c byte) string {
	switch c {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	case '\r':
		return "&#xD;"
	}
	return ""
}

// EscapedSize is how many octets text takes in XML.
func EscapedSize(text []byte) int {
	n := len(text)
	for _, c := range text {
		if s := escape(c); s != "" {
			n += len(s) - 1
		}
	}
	return n
}

func appendText(dst, text []byte) ([]byte, error) {
	if !IsText(text) {
		return nil, ErrNotText
	}
	from := 0
	for i, c := range text {
		if s := escape(c); s != "" {
			dst = append(append(dst, text[from:i]...), s...)
			from = i + 1
		}
	}
	return append(dst, text[from:]...), nil
}

// IsText reports whether text is UTF-8 of the characters that XML allows (XML 1.0 section 2.2).
func IsText(text []byte) bool {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1,
			r < ' ' && r != '\t' && r != '\n' && r != '\r',
			r == 0xFFFE, r == 0xFFFF:
			return false
		}
		text = text[n:]
	}
	return true
}
