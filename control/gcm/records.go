package gcm

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"maps"
	"math"
	"slices"
)

// records of a set, packed one behind the other: a million authorisations are
// some dozen MB, and the garbage collector has nothing to follow in them. What
// is in a chunk isn't overwritten, but for the octet that says whether a record
// is still there, so that keys and values can be given out as they are.
type records struct {
	seed maphash.Seed
	// mask of hashes: all ones, but in tests, where many keys have one hash.
	mask uint64
	// at is where the record of a key lies, by the key's hash. A key whose hash
	// is another's is in strays.
	at     map[uint64]place
	strays map[string]place
	chunks []chunk
	// free chunks, by index, and the one that is being filled; -1 for none.
	free    []int
	filling int
	length  int
}

// place of a record: index of the chunk and offset in it.
type place uint64

const (
	// chunkOctets is how long a chunk gets; a record that is longer has one of its
	// own. So offsets have offsetBits.
	chunkOctets = 1 << offsetBits
	offsetBits  = 16
)

func newPlace(chunk, offset int) place     { return place(chunk)<<offsetBits | place(offset) }
func (p place) split() (chunk, offset int) { return int(p >> offsetBits), int(p & (chunkOctets - 1)) }

// chunk of records, each a flag, the lengths of key and value as uvarints, key
// and value.
type chunk struct {
	octets []byte
	dead   int // octets of records that are gone
}

const (
	flagGone = iota
	flagThere
)

func newRecords() records {
	return records{seed: maphash.MakeSeed(), mask: math.MaxUint64, at: map[uint64]place{}, filling: -1}
}

func (rs *records) hash(key []byte) uint64 { return maphash.Bytes(rs.seed, key) & rs.mask }

func (rs *records) len() int { return rs.length }

// get the value under a key, which isn't to be changed.
func (rs *records) get(key []byte) ([]byte, bool) {
	p, ok := rs.find(key, rs.hash(key))
	if !ok {
		return nil, false
	}
	_, value, _ := rs.read(p)
	return value, true
}

func (rs *records) has(key []byte) bool {
	_, ok := rs.find(key, rs.hash(key))
	return ok
}

func (rs *records) find(key []byte, hash uint64) (place, bool) {
	if p, ok := rs.at[hash]; ok {
		if k, _, _ := rs.read(p); bytes.Equal(k, key) {
			return p, true
		}
	}
	p, ok := rs.strays[string(key)]
	return p, ok
}

// read the record at a place, and how many octets it has in all.
func (rs *records) read(p place) (key, value []byte, size int) {
	c, offset := p.split()
	return readRecordAt(rs.chunks[c].octets[offset:])
}

func readRecordAt(b []byte) (key, value []byte, size int) {
	keyLen, n := binary.Uvarint(b[1:])
	valueLen, m := binary.Uvarint(b[1+n:])
	start := 1 + n + m
	middle, end := start+int(keyLen), start+int(keyLen)+int(valueLen)
	return b[start:middle:middle], b[middle:end:end], end
}

// put a record in the place of the one of that key.
func (rs *records) put(r Record) {
	hash := rs.hash(r.Key)
	old, replaces := rs.find(r.Key, hash)
	rs.point(r.Key, hash, rs.append(r))
	if replaces {
		rs.bury(old)
	} else {
		rs.length++
	}
}

// point to where the record of a key lies now.
func (rs *records) point(key []byte, hash uint64, p place) {
	if other, ok := rs.at[hash]; ok {
		if k, _, _ := rs.read(other); !bytes.Equal(k, key) {
			if rs.strays == nil {
				rs.strays = map[string]place{}
			}
			rs.strays[string(key)] = p
			return
		}
	}
	if _, stray := rs.strays[string(key)]; stray {
		rs.strays[string(key)] = p
		return
	}
	rs.at[hash] = p
}

// append a record to the chunk that is being filled.
func (rs *records) append(r Record) place {
	size := 1 + 2*binary.MaxVarintLen32 + len(r.Key) + len(r.Value)
	if rs.filling < 0 || len(rs.chunks[rs.filling].octets)+size > chunkOctets {
		if n := len(rs.free); n > 0 {
			rs.filling, rs.free = rs.free[n-1], rs.free[:n-1]
		} else {
			rs.chunks = append(rs.chunks, chunk{})
			rs.filling = len(rs.chunks) - 1
		}
	}
	c := &rs.chunks[rs.filling]
	p := newPlace(rs.filling, len(c.octets))
	b := append(c.octets, flagThere)
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = binary.AppendUvarint(b, uint64(len(r.Value)))
	b = append(b, r.Key...)
	c.octets = append(b, r.Value...)
	return p
}

// remove the record of a key, if there is one.
func (rs *records) remove(key []byte) {
	hash := rs.hash(key)
	p, ok := rs.find(key, hash)
	if !ok {
		return
	}
	if q, ok := rs.at[hash]; ok && q == p {
		delete(rs.at, hash)
	} else {
		delete(rs.strays, string(key))
	}
	rs.length--
	rs.bury(p)
}

// bury a record that nothing points to. A chunk that is half dead gives what
// lives in it to the one that is being filled: a piece of work that is bounded
// by the chunk.
func (rs *records) bury(p place) {
	n, offset := p.split()
	c := &rs.chunks[n]
	c.octets[offset] = flagGone
	_, _, size := readRecordAt(c.octets[offset:])
	c.dead += size
	if n == rs.filling || 2*c.dead < len(c.octets) {
		return
	}
	for b := c.octets; len(b) > 0; {
		key, value, size := readRecordAt(b)
		if b[0] == flagThere {
			rs.point(key, rs.hash(key), rs.append(Record{key, value}))
		}
		b = b[size:]
	}
	rs.chunks[n] = chunk{}
	rs.free = append(rs.free, n)
}

// all records, in no order. Nothing may change meanwhile.
func (rs *records) all() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for _, c := range rs.chunks {
			for b := c.octets; len(b) > 0; {
				key, value, size := readRecordAt(b)
				if b[0] == flagThere && !yield(key, value) {
					return
				}
				b = b[size:]
			}
		}
	}
}

// sorted records by key.
func (rs *records) sorted() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		places := make([]place, 0, rs.length)
		places = slices.AppendSeq(places, maps.Values(rs.at))
		places = slices.AppendSeq(places, maps.Values(rs.strays))
		slices.SortFunc(places, func(a, b place) int {
			k, _, _ := rs.read(a)
			l, _, _ := rs.read(b)
			return bytes.Compare(k, l)
		})
		for _, p := range places {
			if k, v, _ := rs.read(p); !yield(k, v) {
				return
			}
		}
	}
}

// clone with an owner of its own. What was given out stays as it is.
func (rs *records) clone() records {
	c := *rs
	c.at, c.strays, c.free = maps.Clone(rs.at), maps.Clone(rs.strays), slices.Clone(rs.free)
	c.chunks = slices.Clone(rs.chunks)
	for i := range c.chunks {
		c.chunks[i].octets = bytes.Clone(c.chunks[i].octets)
	}
	return c
}

// packed is a copy without records that are gone.
func (rs *records) packed() records {
	c := newRecords()
	for k, v := range rs.all() {
		c.put(Record{k, v})
	}
	return c
}
