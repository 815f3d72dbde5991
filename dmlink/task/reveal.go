package task

import (
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
)

// hidden stands for a value in a record.
const hidden = "(hidden)"

// Reveal writes parameters for a record that more people read than may place
// tasks: names with their values, in order. A value is hidden unless it is in the
// form that its parameter has, since what stands elsewhere may be a secret that
// was mistyped; of parameters that no type has the names are hidden, too.
func (v Values) Reveal() []string {
	var parts []string
	unknown := 0
	for _, name := range slices.Sorted(maps.Keys(v)) {
		shown, known := forms[name]
		switch {
		case !known:
			unknown++
		case shown(v[name]):
			parts = append(parts, name+"="+v[name])
		default:
			parts = append(parts, name+"="+hidden)
		}
	}
	if unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d unknown parameters", unknown))
	}
	return parts
}

// forms of what may be shown, by parameter; the values of nodes and texts never
// are.
var forms = map[string]func(string) bool{
	"uri":    areURIs,
	"from":   areURIs,
	"mode":   isChoice("mode"),
	"format": isChoice("format"),
	"type": func(s string) bool {
		t, parameters, err := mime.ParseMediaType(s)
		return err == nil && strings.Contains(t, "/") && len(parameters) == 0
	},
	"value": func(string) bool { return false },
	"text":  func(string) bool { return false },
}

// areURIs says whether a text is URIs with a slash in each: one word may be
// anything.
func areURIs(s string) bool {
	uris := strings.Fields(s)
	return len(uris) > 0 && !slices.ContainsFunc(uris, func(u string) bool {
		return checkURI("uri", u) != nil || u != "." && !strings.Contains(u, "/")
	})
}

// isChoice says whether a text is among those from which a parameter is chosen.
func isChoice(name string) func(string) bool {
	var choices []string
	for _, one := range Types() {
		for _, p := range one.Parameters {
			if p.Name == name {
				choices = append(choices, p.Choices...)
			}
		}
	}
	return func(s string) bool { return slices.Contains(choices, s) }
}
