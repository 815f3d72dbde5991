package syncml

// Version of the representation protocol.
type Version uint8

const (
	V12 Version = iota
	V11
)

// DTD is the content of VerDTD.
func (v Version) DTD() string {
	if v == V11 {
		return "1.1"
	}
	return "1.2"
}

// Proto is the content of VerProto.
func (v Version) Proto() string { return "DM/" + v.DTD() }

// Namespace of the XML syntax.
func (v Version) Namespace() string { return "SYNCML:SYNCML" + v.DTD() }

// Space says which vocabulary an element's name belongs to: the namespace in
// XML, the code page in WBXML.
type Space uint8

const (
	// SyncML is the representation protocol. An element without a namespace
	// counts as one of it.
	SyncML Space = iota
	// MetInf is the meta information that stands in Meta.
	MetInf
	// Foreign is any other namespace. Decode skips such elements.
	Foreign
)

// metInfNamespace in XML.
const metInfNamespace = "syncml:metinf"

// Element is a node of a document: one with children, or one with text.
type Element struct {
	Space Space
	Name  string
	// Text: octets, UTF-8 unless they came as opaque data of WBXML.
	Text []byte
	// Markup: Text is XML as it stood between the tags. Only in Data.
	Markup   bool
	Children []*Element
}

// Document is a message in neither syntax.
type Document struct {
	Version Version
	Root    *Element
}

// Limits on what a parser accepts; it looks at them before it allocates.
// A zero field means the default.
type Limits struct {
	// Octets of a document: 1 MiB.
	Octets int
	// Depth of elements: 16. A message without vendors' markup needs 9.
	Depth int
	// Elements of a document: 65,536.
	Elements int
	// Commands of a message, those in groups included: 4,096.
	Commands int
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		field   *int
		standby int
	}{{&l.Octets, 1 << 20}, {&l.Depth, 16}, {&l.Elements, 1 << 16}, {&l.Commands, 1 << 12}} {
		if *f.field <= 0 {
			*f.field = f.standby
		}
	}
	return l
}

// Syntax is a way to write documents as octets.
type Syntax interface {
	// Parse keeps no reference to octets. Errors wrap ErrMalformed, ErrTooLarge
	// or ErrForbidden.
	Parse(octets []byte, l Limits) (Document, error)
	// Append writes a document behind dst; the same document always the same
	// way. Errors wrap ErrNotText or ErrMalformed.
	Append(dst []byte, doc Document) ([]byte, error)
	// Size of an element of the SyncML space as Append writes it, in octets.
	// A document takes as much as its frame, see Frame, and its elements.
	Size(e *Element) int
	// Frame is what Append writes around the children of the root.
	Frame(v Version) int
	// Binary: text may be any octets.
	Binary() bool
}
