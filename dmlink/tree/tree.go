package tree

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Formats of a node's value that a tree looks at (OMA-TS-SyncML_MetaInfo).
const (
	FormatNode = "node"
	FormatChr  = "chr"
)

// Value of a leaf.
type Value struct {
	// Format as in Meta, chr if empty; node makes an interior node.
	Format string
	// Type is a media type, or on an interior node a management object's name.
	Type string
	Data []byte
}

// Node says how a node may be used.
type Node struct {
	Value Value
	// Verbs that may be used on it; nil means all but Exec.
	Verbs []syncml.Verb
	// Permanent nodes can't be deleted or renamed.
	Permanent bool
	// Exec is what an Exec does; it answers with a status.
	Exec func(now time.Time, data []byte) int
	// OnGet replaces the stored value.
	OnGet func(now time.Time) []byte
	// OnChange is asked before the value changes by Add or Replace; anything but
	// StatusOK refuses.
	OnChange func(v Value) int
}

type node struct {
	Node
	name     string
	title    string
	acl      ACL
	stamp    time.Time
	version  uint16
	children map[string]*node
	parent   *node
}

func (n *node) interior() bool { return n.children != nil }

// Limits of a tree; zero means no limit.
type Limits struct {
	Nodes, ValueOctets, NameOctets int
}

// Tree is a management tree. It begins with a root where every server may do
// everything.
type Tree struct {
	root   *node
	limits Limits
	count  int
	// ImplicitAdd makes missing interior nodes on the way of an Add, as Windows
	// does; otherwise the parent has to be there.
	ImplicitAdd bool
	// undo holds what takes back the changes of an open Atomic, latest last;
	// nil if none is open.
	undo []func()
	open bool
}

// New makes an empty tree.
func New(l Limits) *Tree {
	root := &node{name: ".", children: map[string]*node{}, acl: ACL{}}
	for _, v := range aclVerbs {
		root.acl[v] = []string{"*"}
	}
	root.Permanent = true
	return &Tree{root: root, limits: l, count: 1}
}

// Put is how the device itself makes or replaces a node: no right is asked,
// interior nodes on the way are made. It returns a status.
func (t *Tree) Put(uri string, n Node, now time.Time) int {
	u, err := ParseURI(uri)
	if err != nil || len(u.Path) == 0 || u.Prop != "" || u.List != "" {
		return syncml.StatusBadRequest
	}
	parent := t.root
	for _, name := range u.Path[:len(u.Path)-1] {
		if parent = t.child(parent, name, now); parent == nil {
			return syncml.StatusNotAllowed
		}
	}
	name := u.Path[len(u.Path)-1]
	if old := parent.children[name]; old != nil {
		n.Value.Data = bytes.Clone(n.Value.Data)
		if old.interior() != (n.Value.Format == FormatNode) {
			return syncml.StatusNotAllowed
		}
		old.Node = n
		t.touch(old, now)
		return syncml.StatusOK
	}
	t.insert(parent, name, n, now)
	return syncml.StatusOK
}

// child returns the interior node name of parent, made if missing, nil if it is
// a leaf.
func (t *Tree) child(parent *node, name string, now time.Time) *node {
	c := parent.children[name]
	if c == nil {
		c = t.insert(parent, name, Node{Value: Value{Format: FormatNode}}, now)
	}
	if !c.interior() {
		return nil
	}
	return c
}

func (t *Tree) insert(parent *node, name string, n Node, now time.Time) *node {
	n.Value.Data = bytes.Clone(n.Value.Data)
	c := &node{Node: n, name: name, parent: parent, stamp: now}
	if n.Value.Format == FormatNode {
		c.children, c.Value.Data = map[string]*node{}, nil
	}
	parent.children[name] = c
	t.count++
	t.undone(func() { delete(parent.children, name); t.count-- })
	return c
}

func (t *Tree) undone(f func()) {
	if t.open {
		t.undo = append(t.undo, f)
	}
}

// touch counts a change of n.
func (t *Tree) touch(n *node, now time.Time) {
	stamp, version := n.stamp, n.version
	t.undone(func() { n.stamp, n.version = stamp, version })
	n.stamp, n.version = now, n.version+1
}

// Begin opens an Atomic. It reports false if one is open: they don't nest.
func (t *Tree) Begin() bool {
	if t.open {
		return false
	}
	t.open, t.undo = true, nil
	return true
}

// Commit keeps what the Atomic changed.
func (t *Tree) Commit() { t.open, t.undo = false, nil }

// Rollback takes back what the Atomic changed. What an Exec has done outside
// the tree stays done.
func (t *Tree) Rollback() {
	t.open = false
	for _, f := range slices.Backward(t.undo) {
		f()
	}
	t.undo = nil
}

func (t *Tree) find(path []string) *node {
	n := t.root
	for _, name := range path {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// rights of n: its own, or those of the next above it that has some.
func (n *node) rights() ACL {
	for n.acl == nil && n.parent != nil {
		n = n.parent
	}
	return n.acl
}

func (n *node) permits(verb syncml.Verb) bool {
	if n.Verbs == nil {
		return verb != syncml.Exec || n.Exec != nil
	}
	return slices.Contains(n.Verbs, verb)
}

// Add makes a node (OMA-TS-DM_RepPro-V1_2_1 section 6.6.1).
func (t *Tree) Add(server string, u URI, v Value, now time.Time) int {
	if u.Prop != "" || u.List != "" {
		return syncml.StatusNotAllowed
	}
	if len(u.Path) == 0 {
		return syncml.StatusAlreadyExists
	}
	parent := t.root
	last := len(u.Path) - 1
	depth := last // names of u that are there
	for i, name := range u.Path[:last] {
		next := parent.children[name]
		if next == nil {
			depth = i
			break
		}
		if parent = next; !parent.interior() {
			return syncml.StatusNotAllowed
		}
	}
	name := u.Path[last]
	switch {
	case depth < last && !t.ImplicitAdd:
		return syncml.StatusNotFound
	case !parent.permits(syncml.Add):
		return syncml.StatusNotAllowed
	case !parent.rights().Allows(server, syncml.Add):
		return syncml.StatusPermissionDenied
	case depth == last && parent.children[name] != nil:
		return syncml.StatusAlreadyExists
	case v.Format == FormatNode && len(v.Data) > 0:
		return syncml.StatusBadRequest
	case t.tooLong(u.Path):
		return syncml.StatusURITooLong
	case t.limits.ValueOctets > 0 && len(v.Data) > t.limits.ValueOctets:
		return syncml.StatusEntityTooLarge
	case t.limits.Nodes > 0 && t.count+last-depth+1 > t.limits.Nodes:
		return syncml.StatusDeviceFull
	}
	for _, missing := range u.Path[depth:last] {
		parent = t.insert(parent, missing, Node{Value: Value{Format: FormatNode}}, now)
	}
	t.insert(parent, name, Node{Value: v}, now)
	return syncml.StatusOK
}

func (t *Tree) tooLong(path []string) bool {
	return t.limits.NameOctets > 0 && slices.ContainsFunc(path, func(name string) bool { return len(name) > t.limits.NameOctets })
}

// Replace changes a leaf's value, a property, or an interior node's type
// (section 6.6.11).
func (t *Tree) Replace(server string, u URI, v Value, now time.Time) int {
	n := t.find(u.Path)
	if n == nil {
		return syncml.StatusNotFound
	}
	if u.List != "" {
		return syncml.StatusNotAllowed
	}
	if u.Prop != "" {
		return t.replaceProperty(server, n, u.Prop, string(v.Data), now)
	}
	switch {
	case n.interior() || v.Format == FormatNode, !n.permits(syncml.Replace):
		return syncml.StatusNotAllowed
	case !n.rights().Allows(server, syncml.Replace):
		return syncml.StatusPermissionDenied
	case t.limits.ValueOctets > 0 && len(v.Data) > t.limits.ValueOctets:
		return syncml.StatusEntityTooLarge
	}
	if n.OnChange != nil {
		if code := n.OnChange(v); code != syncml.StatusOK {
			return code
		}
	}
	old := n.Value
	t.undone(func() { n.Value = old })
	if v.Format == "" {
		v.Format = old.Format
	}
	if v.Type == "" {
		v.Type = old.Type
	}
	v.Data = bytes.Clone(v.Data)
	n.Value = v
	t.touch(n, now)
	return syncml.StatusOK
}

// Delete removes a node with all below it (section 6.6.5).
func (t *Tree) Delete(server string, u URI, now time.Time) int {
	n := t.find(u.Path)
	switch {
	case n == nil:
		return syncml.StatusNotFound
	case u.Prop != "", u.List != "", n == t.root, n.Permanent, !n.permits(syncml.Delete), n.holdsPermanent():
		return syncml.StatusNotAllowed
	case !n.rights().Allows(server, syncml.Delete):
		return syncml.StatusPermissionDenied
	}
	parent, size := n.parent, n.size()
	delete(parent.children, n.name)
	t.count -= size
	t.undone(func() { parent.children[n.name] = n; t.count += size })
	return syncml.StatusOK
}

func (n *node) holdsPermanent() bool {
	for _, c := range n.children {
		if c.Permanent || c.holdsPermanent() {
			return true
		}
	}
	return false
}

func (n *node) size() int {
	size := 1
	for _, c := range n.children {
		size += c.size()
	}
	return size
}

// Exec runs what a node stands for (section 6.6.6).
func (t *Tree) Exec(server string, u URI, data []byte, now time.Time) int {
	n := t.find(u.Path)
	switch {
	case n == nil:
		return syncml.StatusNotFound
	case u.Prop != "", u.List != "", n.Exec == nil, !n.permits(syncml.Exec):
		return syncml.StatusNotAllowed
	case !n.rights().Allows(server, syncml.Exec):
		return syncml.StatusPermissionDenied
	}
	return n.Exec(now, data)
}

// Copy makes target a copy of source and all below it (section 6.6.4). Rights
// aren't copied.
func (t *Tree) Copy(server string, source, target URI, now time.Time) int {
	n := t.find(source.Path)
	if n == nil {
		return syncml.StatusNotFound
	}
	switch {
	case source.Prop != "" || source.List != "" || target.Prop != "" || target.List != "", target.Below(source), !n.permits(syncml.Get):
		return syncml.StatusNotAllowed
	case !n.rights().Allows(server, syncml.Get):
		return syncml.StatusPermissionDenied
	case t.limits.Nodes > 0 && t.count+n.size() > t.limits.Nodes:
		return syncml.StatusDeviceFull
	}
	if code := t.Add(server, target, n.Value, now); code != syncml.StatusOK {
		return code
	}
	t.copyBelow(n, t.find(target.Path), now)
	return syncml.StatusOK
}

func (t *Tree) copyBelow(from, to *node, now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(from.children)) {
		c := from.children[name]
		t.copyBelow(c, t.insert(to, name, Node{Value: c.Value}, now), now)
	}
}

// Entry is what a Get returns of one node or property.
type Entry struct {
	URI   string
	Value Value
}

// Get returns a leaf's value, the names below an interior node separated by
// slashes, a property, or with ?list what lies below (section 6.6.7).
func (t *Tree) Get(server string, u URI, now time.Time) ([]Entry, int) {
	n := t.find(u.Path)
	switch {
	case n == nil:
		return nil, syncml.StatusNotFound
	case !n.rights().Allows(server, syncml.Get):
		return nil, syncml.StatusPermissionDenied
	case u.Prop != "":
		value, code := n.property(u.Prop)
		if code != syncml.StatusOK {
			return nil, code
		}
		return []Entry{{URI: u.String(), Value: Value{Format: FormatChr, Data: []byte(value)}}}, code
	case !n.permits(syncml.Get):
		return nil, syncml.StatusNotAllowed
	}
	switch u.List {
	case "":
		return []Entry{{URI: u.String(), Value: n.get(now)}}, syncml.StatusOK
	case "Struct", "StructData":
		return n.list(nil, URI{Path: u.Path}.String(), server, u.List == "StructData", now), syncml.StatusOK
	}
	return nil, syncml.StatusNotSupported
}

func (n *node) get(now time.Time) Value {
	v := n.Value
	switch {
	case n.interior():
		v.Format, v.Data = FormatNode, []byte(strings.Join(slices.Sorted(maps.Keys(n.children)), "/"))
	case n.OnGet != nil:
		v.Data = n.OnGet(now)
	}
	if v.Format == "" {
		v.Format = FormatChr
	}
	v.Data = bytes.Clone(v.Data)
	return v
}

// list appends n and what lies below it, in order of names; with data, values of
// leaves too. What the server may not Get is left out.
func (n *node) list(entries []Entry, uri, server string, data bool, now time.Time) []Entry {
	if !n.rights().Allows(server, syncml.Get) || !n.permits(syncml.Get) {
		return entries
	}
	v := n.get(now)
	if n.interior() || !data {
		v.Data = nil
	}
	entries = append(entries, Entry{URI: uri, Value: v})
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		entries = n.children[name].list(entries, uri+"/"+name, server, data, now)
	}
	return entries
}
