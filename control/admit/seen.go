package admit

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// maxSeen bounds each of the two generations of paths that are remembered.
const maxSeen = 8192

// evidenceDigest of certificates as they were sent: order, number and every
// octet, the signatures among them.
type evidenceDigest [sha256.Size]byte

func digestOf(leaf *x509.Certificate, sent []*x509.Certificate) (sum evidenceDigest) {
	h := sha256.New()
	var n [4]byte
	add := func(c *x509.Certificate) {
		binary.BigEndian.PutUint32(n[:], uint32(len(c.Raw)))
		h.Write(n[:])
		h.Write(c.Raw)
	}
	add(leaf)
	for _, c := range sent {
		add(c)
	}
	h.Sum(sum[:0])
	return sum
}

// seen remembers the paths that were found for certificates, so that the
// signatures of a device that comes again aren't verified again. Only what
// doesn't change is remembered: that a path leads to a root of this policy. When
// it is valid, what of it is revoked, who may come in is asked each time. A path
// costs a sound signature of a trusted CA, so strangers can't fill the table; a
// full one forgets those that came longest ago.
type seen struct {
	mu           sync.Mutex
	recent, past generation
}

type generation struct {
	// paths without the leaf, which isn't kept.
	paths map[evidenceDigest][][]*x509.Certificate
	// issuers are what paths are made of, each once, although every device sends
	// its own copy.
	issuers map[evidenceDigest]*x509.Certificate
	// kept are paths of a leaf, each once likewise, by the digests of their
	// certificates.
	kept map[string][][]*x509.Certificate
}

// find returns the paths of a leaf, nil if none are remembered.
func (s *seen) find(d evidenceDigest, leaf *x509.Certificate) [][]*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	above, ok := s.recent.paths[d]
	if !ok {
		if above, ok = s.past.paths[d]; !ok {
			return nil
		}
		s.put(d, above)
	}
	paths := make([][]*x509.Certificate, len(above))
	for i, issuers := range above {
		paths[i] = append([]*x509.Certificate{leaf}, issuers...)
	}
	return paths
}

// add remembers paths, of which it keeps nothing but the certificates.
func (s *seen) add(d evidenceDigest, paths [][]*x509.Certificate) {
	above := make([][]*x509.Certificate, len(paths))
	for i, path := range paths {
		above[i] = path[1:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(d, above)
}

func (s *seen) put(d evidenceDigest, above [][]*x509.Certificate) {
	if s.recent.paths == nil || len(s.recent.paths) >= maxSeen {
		s.past = s.recent
		s.recent = generation{
			paths:   make(map[evidenceDigest][][]*x509.Certificate),
			issuers: make(map[evidenceDigest]*x509.Certificate),
			kept:    make(map[string][][]*x509.Certificate),
		}
	}
	var names []byte
	for _, issuers := range above {
		names = binary.AppendUvarint(names, uint64(len(issuers)))
		for _, c := range issuers {
			name := sha256.Sum256(c.Raw)
			names = append(names, name[:]...)
		}
	}
	if kept, ok := s.recent.kept[string(names)]; ok {
		s.recent.paths[d] = kept
		return
	}
	kept := make([][]*x509.Certificate, len(above))
	for i, issuers := range above {
		kept[i] = make([]*x509.Certificate, len(issuers))
		for k, c := range issuers {
			name := evidenceDigest(sha256.Sum256(c.Raw))
			if s.recent.issuers[name] == nil {
				s.recent.issuers[name] = c
			}
			kept[i][k] = s.recent.issuers[name]
		}
	}
	s.recent.paths[d], s.recent.kept[string(names)] = kept, kept
}

// validPaths are those of which nothing is out of its time.
func validPaths(now time.Time, paths [][]*x509.Certificate) (valid [][]*x509.Certificate) {
	for _, path := range paths {
		if !slices.ContainsFunc(path, func(c *x509.Certificate) bool { return validity(now, c) != nil }) {
			valid = append(valid, path)
		}
	}
	return valid
}
