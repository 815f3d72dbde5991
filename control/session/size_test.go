package session

import (
	"testing"
	"unsafe"
)

// There is one of each for every session, and a gateway has a hundred thousand:
// whoever adds a field for what is rare puts it behind a pointer. In octets; a card,
// an evidence, a standing and its place in the index are in the session.
func TestSizesOfASession(t *testing.T) {
	for _, s := range []struct {
		name       string
		is, atMost uintptr
	}{
		{"session", unsafe.Sizeof(session{}), 808},
		{"sa", unsafe.Sizeof(sa{}), 144},
		{"card", unsafe.Sizeof(card{}), 208},
		{"keptChild", unsafe.Sizeof(keptChild{}), 32},
		{"account", unsafe.Sizeof(account{}), 120},
		{"metered", unsafe.Sizeof(metered{}), 48},
		{"standing", unsafe.Sizeof(standing{}), 96},
		{"indexed", unsafe.Sizeof(indexed{}), 64},
		{"evidence", unsafe.Sizeof(evidence{}), 40},
	} {
		if s.is > s.atMost {
			t.Errorf("%s has %d octets, want at most %d", s.name, s.is, s.atMost)
		}
		t.Logf("%s: %d", s.name, s.is)
	}
}
