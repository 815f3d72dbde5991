package admit

import (
	"crypto/x509"
	"encoding/binary"
	"testing"
)

// A full table forgets those that came longest ago, and is never more than twice
// full.
func TestSeenIsBounded(t *testing.T) {
	var s seen
	digest := func(n int) (d evidenceDigest) {
		binary.BigEndian.PutUint64(d[:], uint64(n))
		return d
	}
	leaf, root := &x509.Certificate{Raw: []byte("leaf")}, &x509.Certificate{Raw: []byte("root")}
	for n := range 3 * maxSeen {
		s.add(digest(n), [][]*x509.Certificate{{leaf, root}})
		if s.find(digest(0), leaf) == nil {
			t.Fatalf("forgot one that came often, after %d others", n)
		}
		if total := len(s.recent.paths) + len(s.past.paths); total > 2*maxSeen {
			t.Fatalf("%d remembered", total)
		}
	}
	if s.find(digest(1), leaf) != nil {
		t.Error("one that came once is remembered for ever")
	}
	if paths := s.find(digest(3*maxSeen-1), leaf); len(paths) != 1 || len(paths[0]) != 2 || paths[0][0] != leaf || paths[0][1] != root {
		t.Errorf("the last one: %v", paths)
	}
}
