package admit_test

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/roamgate/roamgate/control/admit"
)

// A device's name goes before its units, of which the first group that
// knows one counts; who is unknown gets the group for that.
func TestGroupOfADevice(t *testing.T) {
	w := newWorld(t)
	w.config.Group = "quarantine"
	w.config.Groups = []admit.Group{
		{Name: "staff", Devices: []string{"Phone-1"}, Units: []string{"Sales"}},
		{Name: "field", Devices: []string{"phone-2"}, Units: []string{"Drivers", "Pilots"}},
		{Name: ""},
	}
	for _, c := range []struct {
		device string
		units  []string
		want   string
	}{
		{"phone-1", nil, "staff"},
		{"PHONE-2", []string{"Sales"}, "field"},
		{"phone-3", []string{"Sales"}, "staff"},
		{"phone-3", []string{"Cooks", "Pilots"}, "field"},
		{"phone-3", []string{"Pilots", "Sales"}, "staff"},
		{"phone-3", []string{"sales"}, "quarantine"},
		{"phone-3", nil, "quarantine"},
	} {
		w.present(device(t, w.issuing, c.device, func(x *x509.Certificate) { x.Subject.OrganizationalUnit = c.units }), w.issuing)
		admission, err := w.decide(t)
		if err != nil || admission.Group != c.want {
			t.Errorf("%s of %q: group %q, %v; want %q", c.device, c.units, admission.Group, err, c.want)
		}
	}
	w.config.RefuseUnknown = true
	w.present(device(t, w.issuing, "phone-1"), w.issuing)
	if admission, err := w.decide(t); err != nil || admission.Group != "staff" {
		t.Errorf("a known device: %+v, %v", admission, err)
	}
	for name, groups := range map[string][]admit.Group{
		"device twice": {{Name: "a", Devices: []string{"phone"}}, {Name: "b", Devices: []string{"PHONE"}}},
		"unit twice":   {{Name: "a", Units: []string{"Sales"}}, {Name: "b", Units: []string{"Sales"}}},
		"not a name":   {{Name: "a", Devices: []string{"a phone"}}},
	} {
		config := w.config
		config.Groups = groups
		if _, err := admit.New(config); !errors.Is(err, admit.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
