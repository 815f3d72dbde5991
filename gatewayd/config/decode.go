package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize of a configuration file in octets.
const MaxSize = 256 << 10

// maxDepth of brackets: the parser is recursive.
const maxDepth = 32

// Load reads a file over the defaults and validates the result. The error is
// of type Problems unless the file can't be read.
func Load(name string) (*Config, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxSize {
		return nil, Problems{{File: name, Message: fmt.Sprintf("got %d bytes, expected at most %d", info.Size(), MaxSize)}}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, data)
}

// Parse is Load for data that has been read; name serves for messages and for
// paths relative to it.
func Parse(name string, data []byte) (*Config, error) {
	c, d := decode(name, data)
	// What could be decoded is validated too, so that everything is told at
	// once; a key that failed already is not reported twice.
	problems := d.problems
	for _, p := range c.validate() {
		if !d.failed(p.Key) {
			problems = append(problems, p)
		}
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// SocketOf is the local socket of a gateway that runs with a file, even if the
// file has errors by now; the system's if it can't be read.
func SocketOf(name string) string {
	c := Default()
	if data, err := readFile(name); err == nil {
		c, _ = decode(name, data)
	}
	return c.Socket()
}

// ManagerSocketOf is SocketOf for a manager.
func ManagerSocketOf(name string) string {
	c := Default()
	if data, err := readFile(name); err == nil {
		c, _ = decode(name, data)
	}
	return c.ManagerSocket()
}

// ForManager says whether a file is one for a manager and not for a gateway.
func ForManager(name string) bool {
	data, err := readFile(name)
	if err != nil {
		return false
	}
	c, _ := decode(name, data)
	return c.Has("manager") && !c.Has("gateway")
}

func decode(name string, data []byte) (*Config, *decoder) {
	d := &decoder{file: name, lines: map[string]int{}}
	c := Default()
	c.name, c.lines = name, d.lines
	d.document(data, c)
	return c, d
}

// decoder fills a Config from a syntax tree.
type decoder struct {
	file     string
	lines    map[string]int
	problems Problems
	broken   bool // not even a tree: validation would only make noise
}

func (d *decoder) problem(line int, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) failed(key string) bool {
	for _, p := range d.problems {
		if d.broken || p.Key == key || strings.HasPrefix(key, p.Key+".") || strings.HasPrefix(key, p.Key+"[") || strings.HasPrefix(p.Key, key+"[") {
			return true
		}
	}
	return false
}

func (d *decoder) document(data []byte, c *Config) {
	if len(data) > MaxSize {
		d.broken = true
		d.problem(0, "", "got %d bytes, expected at most %d", len(data), MaxSize)
		return
	}
	if line := tooDeep(data); line > 0 {
		d.broken = true
		d.problem(line, "", "got more than %d opening brackets at once, expected a plain list or section", maxDepth)
		return
	}
	tree, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.broken = true
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			d.problem(syntax.Token.Position.Line, "", "not YAML: %s", syntax.Message)
			return
		}
		d.problem(0, "", "not YAML: %s", strings.TrimSpace(err.Error()))
		return
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			d.problem(lineOf(doc.Body), "", "got a second document, expected one in a file")
			return
		}
		body = doc.Body
	}
	if body != nil {
		d.value("", body, reflect.ValueOf(c).Elem())
	}
}

// tooDeep returns the line where brackets or dashes nest deeper than maxDepth,
// or 0. Indented block nesting is bounded by MaxSize: each level costs its
// indentation again.
func tooDeep(data []byte) int {
	line, depth := 1, 0
	for _, b := range data {
		switch b {
		case '\n':
			line++
		case '[', '{':
			if depth++; depth > maxDepth {
				return line
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return 0
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// value stores the node of a key. A key without a value keeps the default.
func (d *decoder) value(key string, n ast.Node, v reflect.Value) {
	if _, ok := n.(*ast.NullNode); ok {
		return
	}
	_, text := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case text:
		d.scalar(key, n, v)
	case v.Kind() == reflect.Struct:
		d.section(key, n, v)
	case v.Kind() == reflect.Slice:
		d.list(key, n, v)
	default:
		d.scalar(key, n, v)
	}
}

func (d *decoder) section(key string, n ast.Node, v reflect.Value) {
	node, ok := n.(ast.MapNode)
	if !ok {
		d.problem(lineOf(n), key, "got %s, expected a section with the keys %s", describe(n), strings.Join(keysOf(v.Type()), ", "))
		return
	}
	seen := map[string]bool{}
	for it := node.MapRange(); it.Next(); {
		name, line := it.Key().String(), lineOf(it.Key())
		if t := it.Key().GetToken(); t != nil {
			name = t.Value
		}
		path := join(key, name)
		field, ok := fieldByKey(v, name)
		switch {
		case it.Key().IsMergeKey():
			d.problem(line, join(key, "<<"), "merge keys are not supported, write the keys out")
		case !ok:
			d.problem(line, path, "unknown key; %s", suggest(name, keysOf(v.Type())))
		case seen[name]:
			d.problem(line, path, "given twice, first in line %d", d.lines[path])
		default:
			seen[name] = true
			d.lines[path] = line
			d.value(path, it.Value(), field)
		}
	}
}

func (d *decoder) list(key string, n ast.Node, v reflect.Value) {
	node, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(lineOf(n), key, "got %s, expected a list", describe(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(node.Values), len(node.Values))
	for i, item := range node.Values {
		path := key + "[" + strconv.Itoa(i) + "]"
		d.lines[path] = lineOf(item)
		if m, ok := item.(*ast.MappingNode); ok && len(m.Values) > 0 {
			d.lines[path] = lineOf(m.Values[0].Key)
		}
		if _, null := item.(*ast.NullNode); null {
			d.problem(lineOf(item), path, "got nothing, expected %s", expected(v.Type().Elem()))
			continue
		}
		d.value(path, item, list.Index(i))
	}
	v.Set(list)
}

func (d *decoder) scalar(key string, n ast.Node, v reflect.Value) {
	text, ok := scalarText(n)
	if !ok {
		d.problem(lineOf(n), key, "got %s, expected %s", describe(n), expected(v.Type()))
		return
	}
	if err := store(text, v); err != nil {
		d.problem(lineOf(n), key, "got %q, expected %s", clip(text), expected(v.Type()))
	}
}

// scalarText is what was written, whatever YAML would make of it: an identity
// of digits stays what it is.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// choice is a text that is one of several.
type choice interface{ names() []string }

var errNone = errors.New("none of the names")

func store(text string, v reflect.Value) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if c, ok := v.Interface().(choice); ok && !slices.Contains(c.names(), text) {
		return errNone
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return strconv.ErrSyntax
		}
		v.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return err
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return err
		}
		v.SetUint(n)
	default:
		panic("config: no decoder for " + v.Type().String())
	}
	return nil
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
