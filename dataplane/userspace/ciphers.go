package userspace

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/esp"
)

// cipherCache holds the transforms of those children that move packets, each made
// of its key by the first packet of its direction. A new child takes the place of
// one that was silent for a while, else another place, and where there are no more
// that of one that wasn't used for a round of the hand (the clock algorithm). Its
// next packet makes its transform anew. Nobody notices but by time: windows and
// sequence numbers are in the sa.
//
// Transforms are erased with their child, or when they give way; what crypto/cipher
// expanded keys into goes with the garbage then.
type cipherCache struct {
	max    int
	chunks []*[chunkLen]cipherEntry
	made   int // entries
	hand   int
	free   []uint32
	dead   []batchKey // to be erased when the round is over
}

type cipherEntry struct {
	open, seal           esp.Transform // nil before the first packet
	openBatch, sealBatch batchKey      // see batcher
	owner                *sa
	used                 bool // since the hand passed
}

const (
	// cipherLen is about what the transforms of one child take, in octets.
	cipherLen = 2 << 10
	// cipherShare of the machine's memory may be transforms.
	cipherShare = 16
	// leastActive is for how many children of a loop there is a place in any case.
	leastActive = 8192
	// restAfter after which a child gives its place to another one, and handsReach is
	// how many are looked at for that.
	restAfter  = time.Minute
	handsReach = 4
)

// activeChildren is for how many children of a loop there are places by default.
func activeChildren(loops int) int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return leastActive
	}
	memory := uint64(info.Totalram) * uint64(info.Unit)
	return max(leastActive, int(memory/cipherShare/cipherLen)/loops)
}

// opener is the transform of what comes for an installed child.
func (db *sadb) opener(s *sa, now time.Duration) esp.Transform {
	e := db.cipher(s, now)
	if e.open == nil {
		alg := db.policies.at(s.policy).algorithm
		in, _ := db.keys.get(s.keys, alg)
		e.open = mustTransform(esp.New(alg, in, s.esn))
	}
	return e.open
}

// sealer is the transform of what goes out by an installed child.
func (db *sadb) sealer(s *sa, now time.Duration) esp.Transform {
	e := db.cipher(s, now)
	if e.seal == nil {
		alg := db.policies.at(s.policy).algorithm
		_, out := db.keys.get(s.keys, alg)
		e.seal = mustTransform(esp.New(alg, out, s.esn))
	}
	return e.seal
}

// mustTransform: prepare has checked the same keys.
func mustTransform(t esp.Transform, err error) esp.Transform {
	if err != nil {
		panic("userspace: keys that were good are not")
	}
	return t
}

// cipher is the place of s.
func (db *sadb) cipher(s *sa, now time.Duration) *cipherEntry {
	if s.cipher == 0 {
		at := db.ciphers.place(now)
		e := db.ciphers.at(at)
		db.ciphers.retire(e)
		*e = cipherEntry{owner: s}
		s.cipher = at + 1
	}
	e := db.ciphers.at(s.cipher - 1)
	e.used = true
	return e
}

func (c *cipherCache) at(i uint32) *cipherEntry {
	return &c.chunks[i>>chunkBits][i&(chunkLen-1)]
}

// place finds an entry that is free, or makes one.
func (c *cipherCache) place(now time.Duration) uint32 {
	if last := len(c.free) - 1; last >= 0 {
		at := c.free[last]
		c.free = c.free[:last]
		return at
	}
	for range min(handsReach, c.made) {
		at := c.pass()
		if s := c.at(at).owner; now-max(s.counters.lastIn, s.counters.lastOut) >= restAfter {
			s.cipher = 0
			return at
		}
	}
	if c.made < c.max {
		if c.made%chunkLen == 0 {
			c.chunks = append(c.chunks, new([chunkLen]cipherEntry))
		}
		c.made++
		return uint32(c.made - 1)
	}
	for {
		at := c.pass()
		e := c.at(at)
		if e.used {
			e.used = false
			continue
		}
		e.owner.cipher = 0
		return at
	}
}

// pass moves the hand on.
func (c *cipherCache) pass() uint32 {
	at := c.hand
	c.hand = (c.hand + 1) % c.made
	return uint32(at)
}

// drop forgets those of a child.
func (c *cipherCache) drop(s *sa) {
	if s.cipher == 0 {
		return
	}
	at := s.cipher - 1
	e := c.at(at)
	c.retire(e)
	*e = cipherEntry{}
	c.free = append(c.free, at)
	s.cipher = 0
}

// retire erases the transforms of a place that gets another owner, which nobody has
// between two packets, and keeps keys of batches until the round is over: packets of
// the same batch may need them.
func (c *cipherCache) retire(e *cipherEntry) {
	for _, t := range [...]esp.Transform{e.open, e.seal} {
		if t != nil {
			t.Erase()
		}
	}
	if none := (batchKey{}); e.openBatch != none || e.sealBatch != none {
		c.dead = append(c.dead, e.openBatch, e.sealBatch)
	}
}

// bury erases keys that nobody has any more. It is called between rounds.
func (c *cipherCache) bury() {
	for i, k := range c.dead {
		k.erase()
		c.dead[i] = batchKey{}
	}
	c.dead = c.dead[:0]
}

// end of the loop.
func (c *cipherCache) end() {
	for i := range c.made {
		e := c.at(uint32(i))
		c.retire(e)
		*e = cipherEntry{}
	}
	c.bury()
}
