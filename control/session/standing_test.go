package session

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// A standing comes back as it was given, whatever there is of it, and two of the
// same path have in common what they may.
func TestStanding(t *testing.T) {
	until := time.Date(2031, 2, 3, 4, 5, 6, 7, time.UTC)
	leaf, other := admit.Link{Issuer: [16]byte{1}, Serial: []byte{1, 2, 3}}, admit.Link{Issuer: [16]byte{1}, Serial: []byte{9}}
	above := []admit.Link{{Issuer: [16]byte{2}, Serial: []byte{4}}, {Issuer: [16]byte{3}, Serial: []byte(strings.Repeat("s", 200))}}
	for _, s := range []admit.Standing{
		{Device: "phone", Instance: []byte{}},
		{Device: "phone", Epoch: 7, Instance: []byte{1, 2}, Units: []string{"", "a", "b\x00c"}, Until: until, Anchor: [32]byte{5}, Path: []admit.Link{leaf}},
		{Device: "phone", Instance: []byte{}, Path: append([]admit.Link{leaf}, above...)},
	} {
		st := newStanding(s, until, nil)
		if got := st.full(); !reflect.DeepEqual(got, s) {
			t.Errorf("%+v instead of %+v", got, s)
		}
	}
	one := newStanding(admit.Standing{Device: "one", Path: append([]admit.Link{leaf}, above...)}, until, nil)
	two := newStanding(admit.Standing{Device: "two", Path: append([]admit.Link{other}, above...)}, until, nil)
	if one.common != two.common || one.serial == two.serial {
		t.Error("two of the same path have nothing in common")
	}
}
