package dptest

import (
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

// The recorder finds a repeated sequence number under one key, over a change of
// the SPI too, and nothing else.
func TestRecorder(t *testing.T) {
	key := dataplane.Keys{Encryption: []byte("same key")}
	for _, c := range []struct {
		name    string
		packets [][]byte
		faults  int
	}{
		{"nothing seen", nil, 1},
		{"numbers once each", [][]byte{{0, 0, 1, 0, 0, 0, 0, 1}, {0, 0, 1, 0, 0, 0, 0, 2}, {0, 0, 1, 2, 0, 0, 0, 1}}, 0},
		{"a number twice", [][]byte{{0, 0, 1, 0, 0, 0, 0, 1}, {0, 0, 1, 0, 0, 0, 0, 1}}, 1},
		{"a number twice under another SPI", [][]byte{{0, 0, 1, 0, 0, 0, 0, 1}, {0, 0, 1, 1, 0, 0, 0, 1}}, 1},
		{"an SPI of nobody", [][]byte{{0, 0, 1, 0, 0, 0, 0, 1}, {0, 0, 9, 9, 0, 0, 0, 1}}, 1},
	} {
		r := newRecorder()
		r.expect(dataplane.SA{SPI: 0x100, Keys: key})
		r.expect(dataplane.SA{SPI: 0x101, Keys: key})
		r.expect(dataplane.SA{SPI: 0x102, Keys: dataplane.Keys{Encryption: []byte("another")}})
		for _, p := range c.packets {
			r.packet(p)
		}
		if got := r.faults(); len(got) != c.faults {
			t.Errorf("%s: %q, want %d", c.name, got, c.faults)
		}
	}
}
