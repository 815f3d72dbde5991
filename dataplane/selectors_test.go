package dataplane

import (
	"net/netip"
	"slices"
	"testing"
)

func TestSelectorsAreReadAsWritten(t *testing.T) {
	list := []Selector{
		{},
		{Protocol: 17, First: netip.MustParseAddr("10.0.0.1"), Last: netip.MustParseAddr("10.0.0.9"), FirstPort: 1, LastPort: 65535},
		{First: netip.MustParseAddr("2001:db8::"), Last: netip.MustParseAddr("2001:db8::ffff"), LastPort: 65535},
		{First: netip.MustParseAddr("::ffff:1.2.3.4"), Last: netip.MustParseAddr("::ffff:1.2.3.5")},
	}
	for n := range len(list) + 1 {
		if got := ReadSelectors(AppendSelectors(nil, list[:n])); !slices.Equal(got, list[:n]) {
			t.Errorf("%v instead of %v", got, list[:n])
		}
	}
	if got := AppendSelectors([]byte("x"), list); string(got[:1]) != "x" {
		t.Error("what was there is gone")
	}
}
