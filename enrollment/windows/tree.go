package windows

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a message.
const (
	// maxMessage in octets. Attestation by a TPM, which we don't ask for, is
	// most of a large one.
	maxMessage  = 256 << 10
	maxDepth    = 16
	maxElements = 1024
	maxAttrs    = 32
)

var errXML = errors.New("not a message in XML as it is taken here")

// element of a message, with the text that is directly in it.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	text     []byte
	children []*element
}

// parse reads a message. Document types, and with them entities, are refused.
func parse(message []byte) (*element, error) {
	if len(message) > maxMessage {
		return nil, fmt.Errorf("%w: %d octets, at most %d", errXML, len(message), maxMessage)
	}
	d := xml.NewDecoder(bytes.NewReader(message))
	var root *element
	var open []*element
	for count := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && root != nil && len(open) == 0 {
			return root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errXML, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count++
			if len(open) == maxDepth || count > maxElements || len(token.Attr) > maxAttrs {
				return nil, fmt.Errorf("%w: too deep or too much", errXML)
			}
			e := &element{name: token.Name, attrs: token.Copy().Attr}
			if len(open) > 0 {
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			} else if root != nil {
				return nil, fmt.Errorf("%w: two roots", errXML)
			} else {
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				e := open[len(open)-1]
				e.text = append(e.text, token...)
			}
		case xml.Directive:
			return nil, fmt.Errorf("%w: a document type", errXML)
		}
	}
}

// child of a name; nil if there is none, or more than one.
func (e *element) child(space, local string) *element {
	if e == nil {
		return nil
	}
	var found *element
	for _, c := range e.children {
		if c.name.Space == space && c.name.Local == local {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}

// value is the text without the space around it; empty for no element.
func (e *element) value() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(string(e.text))
}

// attr of a name in no namespace.
func (e *element) attr(local string) string {
	if e != nil {
		for _, a := range e.attrs {
			if a.Name.Space == "" && a.Name.Local == local {
				return strings.TrimSpace(a.Value)
			}
		}
	}
	return ""
}
