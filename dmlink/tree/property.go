package tree

import (
	"strconv"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// timeFormat of TStamp: ISO 8601 basic, UTC.
const timeFormat = "20060102T150405Z"

// property of a node as a string (OMA-TS-DM_TND-V1_2_1 section 7).
func (n *node) property(name string) (string, int) {
	ok := func(s string) (string, int) { return s, syncml.StatusOK }
	switch name {
	case "ACL":
		return ok(n.acl.String())
	case "Format":
		switch {
		case n.interior():
			return ok(FormatNode)
		case n.Value.Format == "":
			return ok(FormatChr)
		}
		return ok(n.Value.Format)
	case "Name":
		return ok(n.name)
	case "Size":
		if !n.interior() {
			return ok(strconv.Itoa(len(n.Value.Data)))
		}
	case "Type":
		return ok(n.Value.Type)
	case "Title":
		return ok(n.title)
	case "TStamp":
		return ok(n.stamp.UTC().Format(timeFormat))
	case "VerNo":
		return ok(strconv.Itoa(int(n.version)))
	}
	return "", syncml.StatusNotSupported
}

// replaceProperty: ACL, Name and Title can be replaced (section 7.5). Who may
// change an ACL: with Replace on the parent, or on the node itself if that is
// interior (section 7.7.1.3).
func (t *Tree) replaceProperty(server string, n *node, name, value string, now time.Time) int {
	if name == "ACL" {
		may := n.interior() && n.rights().Allows(server, syncml.Replace) ||
			n.parent != nil && n.parent.rights().Allows(server, syncml.Replace)
		if !may {
			return syncml.StatusPermissionDenied
		}
		acl, err := parseACL(value)
		if err != nil {
			return syncml.StatusBadRequest
		}
		// The root always has one, which lets every server add.
		if n == t.root && !acl.Allows("*", syncml.Add) {
			return syncml.StatusNotAllowed
		}
		old := n.acl
		t.undone(func() { n.acl = old })
		n.acl = acl
		t.touch(n, now)
		return syncml.StatusOK
	}
	if !n.rights().Allows(server, syncml.Replace) {
		return syncml.StatusPermissionDenied
	}
	switch name {
	case "Title":
		old := n.title
		t.undone(func() { n.title = old })
		n.title = value
	case "Name":
		if code := t.rename(n, value); code != syncml.StatusOK {
			return code
		}
	case "Format", "Size", "Type", "TStamp", "VerNo":
		return syncml.StatusNotAllowed
	default:
		return syncml.StatusNotSupported
	}
	t.touch(n, now)
	return syncml.StatusOK
}

func (t *Tree) rename(n *node, name string) int {
	switch {
	case n.Permanent:
		return syncml.StatusNotAllowed
	case checkName(name) != nil:
		return syncml.StatusBadRequest
	case t.tooLong([]string{name}):
		return syncml.StatusURITooLong
	case n.parent.children[name] != nil:
		return syncml.StatusAlreadyExists
	}
	old, parent := n.name, n.parent
	move := func(from, to string) {
		delete(parent.children, from)
		parent.children[to], n.name = n, to
	}
	t.undone(func() { move(name, old) })
	move(old, name)
	return syncml.StatusOK
}
