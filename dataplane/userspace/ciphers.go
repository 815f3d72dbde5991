package userspace

import "github.com/roamgate/roamgate/dataplane/esp"

// cipherCache holds the transforms of those children that move packets, made of
// their keys by the first one. With more of them than places, one that wasn't
// used for a round of the hand gives way (the clock algorithm); its next packet
// makes it anew. Nobody notices but by time: windows and sequence numbers are in
// the sa.
//
// What crypto/cipher expands keys into can't be erased: it goes with the
// garbage, after its child or after it gave way.
type cipherCache struct {
	max     int
	entries []cipherEntry
	hand    int
	free    []uint32
}

type cipherEntry struct {
	transforms
	owner *sa
	used  bool // since the hand passed
}

// transforms of one child.
type transforms struct{ open, seal esp.Transform }

// transforms of an installed child.
func (db *sadb) transforms(s *sa) *transforms {
	if s.cipher != 0 {
		e := &db.ciphers.entries[s.cipher-1]
		e.used = true
		return &e.transforms
	}
	return db.makeTransforms(s)
}

func (db *sadb) makeTransforms(s *sa) *transforms {
	alg := db.policies.at(s.policy).algorithm
	in, out := db.keys.get(s.keys, alg)
	// prepare has checked the same keys: there is no error.
	open, errOpen := esp.New(alg, in, s.esn)
	seal, errSeal := esp.New(alg, out, s.esn)
	if errOpen != nil || errSeal != nil {
		panic("userspace: keys that were good are not")
	}
	at := db.ciphers.place()
	e := &db.ciphers.entries[at]
	*e = cipherEntry{transforms: transforms{open, seal}, owner: s, used: true}
	s.cipher = at + 1
	return &e.transforms
}

// place finds an entry that is free, or makes one.
func (c *cipherCache) place() uint32 {
	if last := len(c.free) - 1; last >= 0 {
		at := c.free[last]
		c.free = c.free[:last]
		return at
	}
	if len(c.entries) < c.max {
		c.entries = append(c.entries, cipherEntry{})
		return uint32(len(c.entries) - 1)
	}
	for {
		at := c.hand
		c.hand = (c.hand + 1) % len(c.entries)
		e := &c.entries[at]
		if e.used {
			e.used = false
			continue
		}
		e.owner.cipher = 0
		return uint32(at)
	}
}

// drop forgets those of a child.
func (c *cipherCache) drop(s *sa) {
	if s.cipher == 0 {
		return
	}
	at := s.cipher - 1
	c.entries[at] = cipherEntry{}
	c.free = append(c.free, at)
	s.cipher = 0
}
