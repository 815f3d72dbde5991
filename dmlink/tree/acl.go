package tree

import (
	"fmt"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// aclVerbs in the order in which an ACL is written. Copy has no right of its
// own: it takes Get at its source and Add at its target.
var aclVerbs = []syncml.Verb{syncml.Add, syncml.Delete, syncml.Exec, syncml.Get, syncml.Replace}

// ACL says which servers, by server identifier, may do what; "*" is all of them
// (OMA-TS-DM_TND-V1_2_1 section 7.7.1). The zero value means that the node has
// none of its own and its parent's holds.
type ACL map[syncml.Verb][]string

// maxServers of an ACL for each verb.
const maxServers = 32

// parseACL reads "Add=a+b&Get=*". An empty string is the zero value.
func parseACL(s string) (ACL, error) {
	if s == "" {
		return nil, nil
	}
	acl := ACL{}
	for entry := range strings.SplitSeq(s, "&") {
		verb, servers, ok := strings.Cut(entry, "=")
		v := syncml.Verb(verb)
		if !ok || !slices.Contains(aclVerbs, v) || acl[v] != nil {
			return nil, fmt.Errorf("ACL: %.64q, expected each of Add, Delete, Exec, Get, Replace once, as VERB=SERVER+SERVER", entry)
		}
		names := strings.Split(servers, "+")
		if len(names) > maxServers {
			return nil, fmt.Errorf("ACL: %d servers, at most %d", len(names), maxServers)
		}
		for _, n := range names {
			if n == "" || n != "*" && strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || strings.ContainsRune("=&*+", r) }) {
				return nil, fmt.Errorf("ACL: %.64q is no server identifier", n)
			}
		}
		if slices.Contains(names, "*") {
			names = []string{"*"}
		}
		acl[v] = names
	}
	return acl, nil
}

func (a ACL) String() string {
	var entries []string
	for _, v := range aclVerbs {
		if len(a[v]) > 0 {
			entries = append(entries, string(v)+"="+strings.Join(a[v], "+"))
		}
	}
	return strings.Join(entries, "&")
}

// Allows reports whether server may do verb.
func (a ACL) Allows(server string, verb syncml.Verb) bool {
	return slices.Contains(a[verb], "*") || slices.Contains(a[verb], server)
}
