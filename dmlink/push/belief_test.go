package push

import (
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestBelief: an older version is believed when it is said twice in a row, or
// when somebody wants it looked at.
func TestBelief(t *testing.T) {
	of := func(epoch, number uint64, hash byte) gcm.SectionState {
		return gcm.SectionState{Version: gcm.Version{Epoch: epoch, Number: number}, Hash: gcm.Hash{hash}}
	}
	none, older, old, now, other, newer := gcm.SectionState{}, of(0, 1, 3), of(1, 2, 2), of(1, 3, 3), of(1, 3, 4), of(1, 4, 4)
	type word struct {
		said        gcm.SectionState
		again, look bool
	}
	for name, words := range map[string][]word{
		"the same":                  {{now, false, false}, {now, false, false}},
		"the same, to be looked at": {{now, true, true}},
		"newer":                     {{newer, false, true}},
		"another content":           {{other, false, true}},
		"said before":               {{old, false, false}, {now, false, false}, {old, false, false}},
		"more and more":             {{older, false, false}, {old, false, false}, {now, false, false}},
		"older, twice":              {{older, false, false}, {older, false, true}, {older, false, false}},
		"older, to be looked at":    {{older, true, true}},
		"nothing":                   {{none, false, false}, {none, false, true}},
	} {
		b := belief{has: now}
		for n, w := range words {
			had := b.has
			if look := b.hear(polled{w.said, w.again}); look != w.look {
				t.Errorf("%s: word %d is looked at: %t", name, n+1, look)
			}
			want := had
			if w.look {
				want = w.said
			}
			if b.has.Version != want.Version || b.has.Hash != want.Hash {
				t.Errorf("%s: after word %d it has %v, want %v", name, n+1, b.has.Version, want.Version)
			}
		}
	}
}
