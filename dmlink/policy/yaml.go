package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize of a document as YAML, in octets.
const MaxSize = 16 << 20

// maxNesting of brackets, and of dashes on one line: the parser is recursive.
const maxNesting = 64

// Export writes a document as YAML, the same for the same document: sets, units
// and links in a fixed order.
func Export(w io.Writer, d Document) error {
	e := emitter{}
	e.document(d.normal())
	_, err := w.Write(e.out.Bytes())
	return err
}

// Import reads YAML as Export writes it, in any order and style. Unknown keys,
// anchors and aliases are errors. The document isn't checked: Compile does that.
func Import(r io.Reader) (Document, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return Document{}, err
	}
	wrong := func(format string, args ...any) (Document, error) {
		return Document{}, fmt.Errorf("%w: "+format, append([]any{ErrDocument}, args...)...)
	}
	switch {
	case len(data) > MaxSize:
		return wrong("more than %d octets", MaxSize)
	case !utf8.Valid(data):
		return wrong("not UTF-8")
	case len(bytes.TrimSpace(data)) == 0:
		return Document{}, nil
	}
	if line := tooDeep(data); line > 0 {
		return wrong("line %d: nested deeper than %d", line, maxNesting)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return wrong("%w", err)
	}
	var d Document
	switch {
	case len(file.Docs) != 1:
		return wrong("%d documents in one file", len(file.Docs))
	case file.Docs[0].Body == nil:
		return d, nil
	}
	refused := references{}
	ast.Walk(&refused, file.Docs[0].Body)
	if refused.line > 0 {
		return wrong("line %d: anchors and aliases aren't allowed", refused.line)
	}
	if err := yaml.NodeToValue(file.Docs[0].Body, &d, yaml.Strict()); err != nil {
		return wrong("%w", err)
	}
	return d, nil
}

// references finds anchors and aliases, with which a few octets mean a lot.
type references struct{ line int }

func (r *references) Visit(n ast.Node) ast.Visitor {
	if n == nil {
		return nil
	}
	if t := n.Type(); t != ast.AnchorType && t != ast.AliasType {
		return r
	}
	if r.line > 0 {
		return nil
	}
	r.line = 1
	if t := n.GetToken(); t != nil && t.Position != nil {
		r.line = t.Position.Line
	}
	return nil
}

// tooDeep returns the line where brackets, or dashes on one line, nest deeper than
// maxNesting, or 0. Deeper indentation costs its blanks again and again, so that
// MaxSize bounds it.
func tooDeep(data []byte) int {
	line, depth, dashes, start := 1, 0, 0, true
	for _, b := range data {
		switch b {
		case '\n':
			line, dashes, start = line+1, 0, true
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case '-', '?', ':':
			if start {
				dashes++
			}
			continue
		case ' ', '\t':
			continue
		}
		start = false
		if depth > maxNesting || dashes > maxNesting {
			return line
		}
	}
	if dashes > maxNesting {
		return line
	}
	return 0
}

// emitter writes the YAML that the types of a document need, and no more.
type emitter struct{ out bytes.Buffer }

func (e *emitter) line(indent int, item bool, key, value string) {
	e.out.WriteString(strings.Repeat("  ", indent))
	switch {
	case item:
		e.out.WriteString("- ")
	case indent > 0:
		e.out.WriteString("  ")
	}
	e.out.WriteString(key + ":")
	if value != "" {
		e.out.WriteString(" " + value)
	}
	e.out.WriteByte('\n')
}

func (e *emitter) document(d Document) {
	if len(d.Sets) == 0 {
		e.line(0, false, "sets", "[]")
	} else {
		e.line(0, false, "sets", "")
	}
	for _, s := range d.Sets {
		e.line(1, true, "name", scalar(s.Name))
		e.text(1, "description", s.Description)
		e.flag(1, "disabled", s.Disabled)
		e.names(1, "groups", s.Groups)
		e.names(1, "except", s.Except)
		e.text(1, "filter", s.Filter)
		e.flag(1, "atomic", s.Atomic)
		if len(s.Settings) > 0 {
			e.line(1, false, "settings", "")
		}
		for _, v := range s.Settings {
			e.line(3, true, "uri", scalar(v.URI))
			e.text(3, "format", v.Format)
			e.text(3, "type", v.Type)
			e.text(3, "data", v.Data)
			e.flag(3, "absent", v.Absent)
			e.text(3, "after", string(v.After))
			e.text(3, "leave", v.Leave)
			e.text(3, "remove_at", v.RemoveAt)
			e.flag(3, "there", v.There)
		}
	}
	if len(d.Units) > 0 {
		e.line(0, false, "units", "")
	}
	for _, u := range d.Units {
		e.line(1, true, "path", scalar(u.Path))
		e.flag(1, "block", u.Block)
	}
	if len(d.Links) > 0 {
		e.line(0, false, "links", "")
	}
	for _, l := range d.Links {
		e.line(1, true, "unit", scalar(l.Unit))
		e.line(1, false, "set", scalar(l.Set))
		e.line(1, false, "order", strconv.Itoa(l.Order))
		e.flag(1, "enforced", l.Enforced)
		e.flag(1, "disabled", l.Disabled)
	}
}

func (e *emitter) text(indent int, key, value string) {
	if value != "" {
		e.line(indent, false, key, scalar(value))
	}
}

func (e *emitter) flag(indent int, key string, value bool) {
	if value {
		e.line(indent, false, key, "true")
	}
}

func (e *emitter) names(indent int, key string, names []string) {
	if len(names) == 0 {
		return
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = scalar(n)
	}
	e.line(indent, false, key, "["+strings.Join(quoted, ", ")+"]")
}

// scalar is plain where nobody could read it as something else, otherwise in
// double quotes with the escapes of JSON, which those of YAML include.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func plain(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	letter := s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z'
	if !letter && !strings.HasPrefix(s, "./") {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '/', c == '_', c == '-':
		default:
			return false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return false
	}
	return true
}
