package policy

import "strings"

// holder has the right to say what a node is.
type holder struct {
	setting Setting
	// set is an index of Result.Sets.
	set int
}

// chosen are settings of which all can hold at once: no two for one node, and
// nothing below a leaf or below a node that shall be absent.
type chosen struct {
	nodes map[string]holder
	// above counts the chosen settings below each node.
	above map[string]int
}

// add takes a setting unless one that is there already stands against it, which
// is returned.
func (c *chosen) add(uri string, h holder) *holder {
	if c.nodes == nil {
		c.nodes, c.above = map[string]holder{}, map[string]int{}
	}
	if other, ok := c.nodes[uri]; ok {
		return &other
	}
	for parent := range parents(uri) {
		if other, ok := c.nodes[parent]; ok && other.setting.Format != "node" {
			return &other
		}
	}
	if c.above[uri] > 0 && h.setting.Format != "node" {
		return c.below(uri)
	}
	c.nodes[uri] = h
	for parent := range parents(uri) {
		c.above[parent]++
	}
	return nil
}

// below finds the first that is below a node; there is one.
func (c *chosen) below(uri string) *holder {
	first := ""
	for u := range c.nodes {
		if strings.HasPrefix(u, uri+"/") && (first == "" || u < first) {
			first = u
		}
	}
	h := c.nodes[first]
	return &h
}

// parents of a node, the nearest first, without the root.
func parents(uri string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for {
			i := strings.LastIndexByte(uri, '/')
			if i <= 1 { // "./"
				return
			}
			uri = uri[:i]
			if !yield(uri) {
				return
			}
		}
	}
}
