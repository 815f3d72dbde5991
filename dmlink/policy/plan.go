package policy

import "slices"

// Plan says what another document would change.
type Plan struct {
	// Touched devices were looked at; Changed ones would have another result.
	Touched int `json:"touched" yaml:"touched"`
	Changed int `json:"changed" yaml:"changed"`
	// Devices are the first of those that would change, by ID.
	Devices []DevicePlan `json:"devices,omitempty" yaml:"devices,omitempty"`
	// Nodes count devices by node: which get, lose, or get another value.
	Nodes map[string]NodePlan `json:"nodes,omitempty" yaml:"nodes,omitempty"`
}

// NodePlan counts devices.
type NodePlan struct {
	Gain   int `json:"gain,omitempty" yaml:"gain,omitempty"`
	Lose   int `json:"lose,omitempty" yaml:"lose,omitempty"`
	Change int `json:"change,omitempty" yaml:"change,omitempty"`
}

// DevicePlan is what would change for one device.
type DevicePlan struct {
	Device string       `json:"device" yaml:"device"`
	Nodes  []Difference `json:"nodes" yaml:"nodes"`
}

// Difference of a node between two results. Before is nil for a new value,
// After for one that no set wants any more.
type Difference struct {
	URI    string `json:"uri" yaml:"uri"`
	Before *Value `json:"before,omitempty" yaml:"before,omitempty"`
	After  *Value `json:"after,omitempty" yaml:"after,omitempty"`
}

// maxPlanned devices are listed in a plan; all are counted.
const maxPlanned = 1000

// add a device.
func (p *Plan) add(device string, differences []Difference) {
	p.Touched++
	if len(differences) == 0 {
		return
	}
	p.Changed++
	if len(p.Devices) < maxPlanned {
		p.Devices = append(p.Devices, DevicePlan{device, differences})
	}
	for _, d := range differences {
		n := p.Nodes[d.URI]
		switch {
		case d.Before == nil:
			n.Gain++
		case d.After == nil:
			n.Lose++
		default:
			n.Change++
		}
		if p.Nodes == nil {
			p.Nodes = map[string]NodePlan{}
		}
		p.Nodes[d.URI] = n
	}
}

// Differences between two results, by URI. Who says a value doesn't matter as
// long as a device gets the same.
func Differences(before, after Result) []Difference {
	var out []Difference
	i, j := 0, 0
	for i < len(before.Values) || j < len(after.Values) {
		switch {
		case j == len(after.Values) || i < len(before.Values) && before.Values[i].Setting.URI < after.Values[j].Setting.URI:
			out = append(out, Difference{URI: before.Values[i].Setting.URI, Before: &before.Values[i]})
			i++
		case i == len(before.Values) || after.Values[j].Setting.URI < before.Values[i].Setting.URI:
			out = append(out, Difference{URI: after.Values[j].Setting.URI, After: &after.Values[j]})
			j++
		default:
			if !before.Values[i].Setting.Equal(after.Values[j].Setting) {
				out = append(out, Difference{before.Values[i].Setting.URI, &before.Values[i], &after.Values[j]})
			}
			i, j = i+1, j+1
		}
	}
	return slices.Clip(out)
}
