package inventory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// Bounds of what is kept of one device.
const (
	maxNodes = 8192
	// maxData of a value, in octets; of a longer one this is kept and its digest.
	maxData = 4096
)

// Snapshot is the last that is known of a device. It is stored as JSON. The zero
// Snapshot knows nothing.
type Snapshot struct {
	// Version counts updates that changed something.
	Version int64 `json:"version"`
	// Updated is when the device last told something, new or not.
	Updated time.Time `json:"updated,omitzero"`
	// Nodes are leaves by URI.
	Nodes map[string]Value `json:"nodes,omitempty"`
}

// Value of a leaf.
type Value struct {
	Format string `json:"format,omitempty"`
	Type   string `json:"type,omitempty"`
	Data   []byte `json:"data,omitempty"`
	// Size in octets and Digest (SHA-256, hexadecimal) of a value that is longer
	// than what is kept of it.
	Size   int    `json:"size,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Since is when the device first told this value.
	Since time.Time `json:"since"`
}

func (v Value) same(other Value) bool {
	return v.Format == other.Format && v.Type == other.Type && v.Digest == other.Digest && bytes.Equal(v.Data, other.Data)
}

// Change of a node. Before is nil for a new one, After for one that is gone.
type Change struct {
	// Number is given by the store: later changes of a device have higher ones.
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	URI    string    `json:"uri"`
	Before *Value    `json:"before,omitempty"`
	After  *Value    `json:"after,omitempty"`
}

// Update is what a device told.
type Update struct {
	At     time.Time
	Values []session.Value
	// Gone are nodes that the device hasn't, with all below them.
	Gone []string
	// Complete are nodes of which all leaves below are in Values: others are gone.
	Complete []string
}

// Apply an update. s stays as it is. Changes are in order of URIs.
func (s Snapshot) Apply(u Update) (Snapshot, []Change) {
	out := Snapshot{Version: s.Version, Updated: u.At, Nodes: maps.Clone(s.Nodes)}
	if out.Nodes == nil {
		out.Nodes = map[string]Value{}
	}
	told := map[string]Value{}
	for _, v := range u.Values {
		if uri, value, ok := leaf(v, u.At); ok {
			told[uri] = value
		}
	}
	for uri := range s.Nodes {
		if _, ok := told[uri]; !ok && (under(uri, u.Gone) || under(uri, u.Complete)) {
			delete(out.Nodes, uri)
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(told)) {
		old, had := out.Nodes[uri]
		switch {
		case had && old.same(told[uri]):
		case had, len(out.Nodes) < maxNodes:
			out.Nodes[uri] = told[uri]
		}
	}
	changes := differences(s.Nodes, out.Nodes, u.At)
	if len(changes) > 0 {
		out.Version++
	}
	return out, changes
}

// leaf of the tree, in the form in which it is kept; false for anything else.
func leaf(v session.Value, at time.Time) (string, Value, bool) {
	u, err := tree.ParseURI(v.URI)
	if err != nil || len(u.Path) == 0 || u.Prop != "" || u.List != "" || v.Format == tree.FormatNode {
		return "", Value{}, false
	}
	out := Value{Format: cut(v.Format), Type: cut(v.Type), Data: bytes.Clone(v.Data), Since: at}
	if out.Format == tree.FormatChr {
		out.Format = ""
	}
	if n := len(v.Data); n > maxData {
		sum := sha256.Sum256(v.Data)
		out.Data, out.Size, out.Digest = out.Data[:maxData:maxData], n, hex.EncodeToString(sum[:])
	}
	return u.String(), out, true
}

// cut a name that a device chose.
func cut(s string) string { return s[:min(len(s), 100)] }

// under reports whether a node is one of the roots, or below one.
func under(uri string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return uri == root || strings.HasPrefix(uri, root+"/")
	})
}

func differences(before, after map[string]Value, at time.Time) []Change {
	var out []Change
	for uri, v := range before {
		if now, ok := after[uri]; !ok {
			out = append(out, Change{At: at, URI: uri, Before: &v})
		} else if !v.same(now) {
			out = append(out, Change{At: at, URI: uri, Before: &v, After: &now})
		}
	}
	for uri, v := range after {
		if _, ok := before[uri]; !ok {
			out = append(out, Change{At: at, URI: uri, After: &v})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.URI, b.URI) })
	return out
}

// Facts are the values that are text, by URI, and the versions of software by
// name, for filters. Of software that is there several times it is the version of
// the last one in order of URIs.
func (s Snapshot) Facts() (nodes, software map[string]string) {
	nodes, software = make(map[string]string, len(s.Nodes)), map[string]string{}
	for uri, v := range s.Nodes {
		if utf8.Valid(v.Data) {
			nodes[uri] = string(v.Data)
		}
	}
	for _, one := range s.Software() {
		software[one.Name] = one.Version
	}
	return nodes, software
}
