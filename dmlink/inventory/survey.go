package inventory

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// Bounds of a survey.
const (
	maxAsked    = 2000
	maxChildren = 500
	maxDepth    = 8
)

// Root of a part of the tree that is asked for.
type Root struct {
	URI string
	// Depth of what is asked for below it: 0 is the node alone. At most 8.
	Depth int
}

// Roots that every device of OMA DM 1.2 has, and where software is listed. What
// a device hasn't it answers with 404.
var Roots = []Root{
	{"./DevInfo", 2},
	{"./DevDetail", 4},
	{"./SCM/Inventory/Deployed", 2},
}

// RootsMicrosoft are those of devices that name Microsoft's nodes.
var RootsMicrosoft = []Root{
	{"./Vendor/MSFT/SwMgmt/Inventory/Deployed", 2},
	{"./Device/Vendor/MSFT/EnterpriseDesktopAppManagement/MSI", 2},
	{"./Device/Vendor/MSFT/EnterpriseModernAppManagement/AppManagement/AppStore", 3},
	{"./Vendor/MSFT/DeviceStatus", 2},
}

// Survey asks a device for its inventory, in rounds: Next says what to Get, the
// answers open what Next says then. It is stored as JSON between the rounds, so
// that it outlives sessions and servers.
type Survey struct {
	// Asked are nodes that were given out or are about to be, by URI.
	Asked  map[string]*Question `json:"asked"`
	Values []session.Value      `json:"values,omitempty"`
	Gone   []string             `json:"gone,omitempty"`
	// Roots that were asked for, in order.
	Roots []string `json:"roots"`
}

// Question about one node.
type Question struct {
	// Depth that is left below it.
	Depth    int  `json:"depth"`
	Answered bool `json:"answered,omitempty"`
	// Failed: what is below it isn't known completely.
	Failed bool `json:"failed,omitempty"`
}

// NewSurvey of roots. Those that are no nodes are left out.
func NewSurvey(roots ...Root) *Survey {
	s := &Survey{Asked: map[string]*Question{}}
	for _, r := range roots {
		if uri, ok := nodeURI(r.URI); ok {
			if s.Asked[uri] == nil {
				s.Roots = append(s.Roots, uri)
			}
			s.ask(uri, min(max(r.Depth, 0), maxDepth))
		}
	}
	return s
}

func nodeURI(text string) (string, bool) {
	u, err := tree.ParseURI(text)
	return u.String(), err == nil && len(u.Path) > 0 && u.Prop == "" && u.List == ""
}

func (s *Survey) ask(uri string, depth int) bool {
	if q := s.Asked[uri]; q != nil {
		q.Depth = max(q.Depth, depth)
		return true
	}
	if len(s.Asked) >= maxAsked {
		return false
	}
	s.Asked[uri] = &Question{Depth: depth}
	return true
}

// Next are up to n nodes to Get, in order; none means that the survey is done.
// The same are returned until they are answered.
func (s *Survey) Next(n int) []string {
	var open []string
	for _, uri := range slices.Sorted(maps.Keys(s.Asked)) {
		if !s.Asked[uri].Answered {
			open = append(open, uri)
		}
	}
	return open[:min(n, len(open))]
}

// Command that asks for a node.
func Command(uri string) *syncml.Op {
	return &syncml.Op{Verb: syncml.Get, Items: []syncml.Item{{Target: syncml.Location{URI: uri}}}}
}

// Answer takes what the device said to the Get of a node: the status, and the
// results. What wasn't asked for, and results of other nodes, change nothing.
func (s *Survey) Answer(uri string, code int, results []session.Value) {
	q := s.Asked[uri]
	if q == nil || q.Answered {
		return
	}
	q.Answered = true
	switch {
	case code == syncml.StatusNotFound || code == syncml.StatusGone:
		s.Gone = append(s.Gone, uri)
		return
	case code < 200 || code >= 300:
		q.Failed = true
		return
	}
	found := false
	for _, v := range results {
		if at, ok := nodeURI(v.URI); !ok || at != uri {
			continue
		}
		found = true
		if v.Format == tree.FormatNode {
			s.children(uri, q, string(v.Data))
		} else {
			v.URI = uri
			s.Values = append(s.Values, v)
		}
	}
	q.Failed = q.Failed || !found
}

// children of an interior node are its value: names with a slash between them.
func (s *Survey) children(uri string, q *Question, names string) {
	if names == "" {
		return
	}
	if q.Depth == 0 {
		q.Failed = true // more is there than was asked for
		return
	}
	for i, name := range strings.SplitN(names, "/", maxChildren+1) {
		child, ok := nodeURI(uri + "/" + name)
		if i == maxChildren || !ok || strings.Contains(name, "/") || !s.ask(child, q.Depth-1) {
			q.Failed = true
		}
	}
}

// Update that the survey comes to. A root is Complete if all below it was asked
// for and answered; a survey that isn't done may be taken, too.
func (s *Survey) Update(at time.Time) Update {
	u := Update{At: at, Values: s.Values, Gone: s.Gone}
	for _, root := range s.Roots {
		complete := true
		for uri, q := range s.Asked {
			if under(uri, []string{root}) && (!q.Answered || q.Failed) {
				complete = false
				break
			}
		}
		if complete {
			u.Complete = append(u.Complete, root)
		}
	}
	return u
}
