package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// expected says in a few words what may stand for a value of the type.
func expected(t reflect.Type) string {
	if e, ok := reflect.Zero(t).Interface().(interface{ expected() string }); ok {
		return e.expected()
	}
	if c, ok := reflect.Zero(t).Interface().(choice); ok {
		return "one of " + strings.Join(c.names(), ", ")
	}
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return "an IP address such as 192.0.2.1"
	case reflect.TypeFor[netip.Prefix]():
		return "a network such as 10.9.0.0/16"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Uint16:
		return "a number from 0 to 65535"
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "a section with the keys " + strings.Join(keysOf(t), ", ")
	default:
		return "a text"
	}
}

// describe names what a node is, for "got ...".
func describe(n ast.Node) string {
	switch n := n.(type) {
	case ast.MapNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias, which are not supported"
	case *ast.TagNode:
		return "a tag, which are not supported"
	case *ast.LiteralNode:
		return "a block of text"
	default:
		if text, ok := scalarText(n); ok {
			return fmt.Sprintf("%q", clip(text))
		}
		return "something else"
	}
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" {
			keys = append(keys, tag)
		}
	}
	return keys
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	if key == "" {
		return reflect.Value{}, false
	}
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// suggest answers an unknown key.
func suggest(key string, known []string) string {
	best, distance := "", 1+max(1, len(key)/2)
	for _, k := range known {
		if d := editDistance(clip(key), k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean '%s'?", best)
	}
	known = slices.Sorted(slices.Values(known))
	return "expected one of " + strings.Join(known, ", ")
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
