package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Software that a device has.
type Software struct {
	// URI of its node.
	URI       string `json:"uri" yaml:"uri"`
	Name      string `json:"name" yaml:"name"`
	Version   string `json:"version,omitempty" yaml:"version,omitempty"`
	Publisher string `json:"publisher,omitempty" yaml:"publisher,omitempty"`
	// State of a SCOMO component: 10 inactive, 20 active.
	State string `json:"state,omitempty" yaml:"state,omitempty"`
}

// catalogue says where software stands in a tree: nodes depth levels below root,
// with the leaves Name, Version, Publisher and State, as far as there are any.
type catalogue struct {
	root  string
	depth int
}

var catalogues = []catalogue{
	{"./SCM/Inventory/Deployed", 1},                                                  // OMA SCOMO 1.0
	{"./Vendor/MSFT/SwMgmt/Inventory/Deployed", 1},                                   // Windows Mobile 6.1
	{"./Device/Vendor/MSFT/EnterpriseDesktopAppManagement/MSI", 1},                   // Windows
	{"./Vendor/MSFT/EnterpriseModernAppManagement/AppManagement/AppStore", 2},        // Windows
	{"./Vendor/MSFT/EnterpriseModernAppManagement/AppManagement/nonStore", 2},        // Windows
	{"./Device/Vendor/MSFT/EnterpriseModernAppManagement/AppManagement/AppStore", 2}, // Windows
	{"./Device/Vendor/MSFT/EnterpriseModernAppManagement/AppManagement/nonStore", 2}, // Windows
}

// isSoftware reports whether a node belongs to the list of software.
func isSoftware(uri string) bool {
	return slices.ContainsFunc(catalogues, func(c catalogue) bool { return strings.HasPrefix(uri, c.root+"/") })
}

// Software in order of URIs.
func (s Snapshot) Software() []Software {
	found := map[string]*Software{}
	for uri, v := range s.Nodes {
		node, name, ok := entry(uri)
		if !ok {
			continue
		}
		one := found[node]
		if one == nil {
			one = &Software{URI: node}
			found[node] = one
		}
		switch data := string(v.Data); name {
		case "Name":
			one.Name = data
		case "Version":
			one.Version = data
		case "Publisher":
			one.Publisher = data
		case "State":
			one.State = data
		}
	}
	var out []Software
	for _, uri := range slices.Sorted(maps.Keys(found)) {
		one := found[uri]
		// Without a name of its own it is called as its node is.
		one.Name = cmp.Or(one.Name, uri[strings.LastIndexByte(uri, '/')+1:])
		out = append(out, *one)
	}
	return out
}

// entry of a catalogue that a leaf belongs to, and the leaf's name.
func entry(uri string) (node, name string, ok bool) {
	for _, c := range catalogues {
		rest, ok := strings.CutPrefix(uri, c.root+"/")
		if !ok {
			continue
		}
		names := strings.Split(rest, "/")
		if len(names) <= c.depth {
			return "", "", false
		}
		return c.root + "/" + strings.Join(names[:c.depth], "/"), strings.Join(names[c.depth:], "/"), true
	}
	return "", "", false
}
