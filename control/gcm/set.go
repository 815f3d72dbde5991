package gcm

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
)

// Record of a section in canonical form. Key and Value are not changed by
// anybody after they were made.
type Record struct {
	Key, Value []byte
}

// Set is a section's content. It has one owner; nothing here is safe for
// concurrent use.
type Set struct {
	section Section
	version Version
	records records
	sum     sum
}

// NewSet is empty, of the zero version.
func NewSet(section Section) (*Set, error) {
	if _, _, _, ok := section.limits(); !ok {
		return nil, fmt.Errorf("%w: no section %q", ErrMalformed, section)
	}
	return &Set{section: section, records: newRecords()}, nil
}

// Section that it is the content of.
func (s *Set) Section() Section { return s.section }

// Version of the content.
func (s *Set) Version() Version { return s.version }

// Renumber the content, whatever its version was. It is for who decides to
// forget that; everybody else commits.
func (s *Set) Renumber(v Version) { s.version = v }

// Len is the number of records.
func (s *Set) Len() int { return s.records.len() }

// Hash of the content. It doesn't cover the version.
func (s *Set) Hash() Hash { return s.sum.hash(s.section, s.Len()) }

// Get is the value under a key. It isn't to be changed.
func (s *Set) Get(key []byte) ([]byte, bool) { return s.records.get(key) }

// All records, in no order.
func (s *Set) All() iter.Seq[Record] { return recordsOf(s.records.all()) }

// Sorted records, by their keys.
func (s *Set) Sorted() iter.Seq[Record] { return recordsOf(s.records.sorted()) }

func recordsOf(pairs iter.Seq2[[]byte, []byte]) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for k, v := range pairs {
			if !yield(Record{Key: k, Value: v}) {
				return
			}
		}
	}
}

// Clone is a copy with an owner of its own.
func (s *Set) Clone() *Set {
	c := *s
	c.records = s.records.clone()
	return &c
}

// Commit changes the content, as a manager does, and takes the version. The
// delta leads from what was to what is. Puts of what is there and deletes of
// what isn't are left out of it. Errors: ErrStale, ErrTooLarge, ErrRecord,
// ErrMalformed for a key that comes twice.
func (s *Set) Commit(v Version, put []Record, del [][]byte) (Delta, error) {
	d := Delta{Section: s.section, Base: s.Hash(), Version: v}
	for _, r := range put {
		if old, ok := s.records.get(r.Key); !ok || !bytes.Equal(old, r.Value) {
			d.Put = append(d.Put, r)
		}
	}
	for _, k := range del {
		if s.records.has(k) {
			d.Delete = append(d.Delete, k)
		}
	}
	slices.SortFunc(d.Put, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	slices.SortFunc(d.Delete, bytes.Compare)
	after, err := s.after(&d)
	if err != nil {
		return Delta{}, err
	}
	d.Hash = after.hash(s.section, s.lenAfter(&d))
	return d, s.Apply(d)
}

// Diff is the delta that leads from s to t, which keeps its version. It costs
// both sets; a manager uses it for a gateway that was away for long.
func (s *Set) Diff(t *Set) Delta {
	d := Delta{Section: s.section, Base: s.Hash(), Version: t.version, Hash: t.Hash()}
	for k, v := range t.records.all() {
		if old, ok := s.records.get(k); !ok || !bytes.Equal(old, v) {
			d.Put = append(d.Put, Record{k, v})
		}
	}
	for k := range s.records.all() {
		if !t.records.has(k) {
			d.Delete = append(d.Delete, k)
		}
	}
	slices.SortFunc(d.Put, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	slices.SortFunc(d.Delete, bytes.Compare)
	return d
}

// Check says whether Apply would take a delta. Errors: ErrStale, ErrBase,
// ErrHash, ErrTooLarge, ErrRecord, ErrMalformed.
func (s *Set) Check(d Delta) error {
	if d.Section != s.section {
		return fmt.Errorf("%w: of section %s, for %s", ErrMalformed, d.Section, s.section)
	}
	if d.Version.Compare(s.version) <= 0 {
		return fmt.Errorf("%w: %v, here is %v", ErrStale, d.Version, s.version)
	}
	if d.Base != s.Hash() {
		return fmt.Errorf("%w: %v, here is %v", ErrBase, d.Base, s.Hash())
	}
	after, err := s.after(&d)
	if err != nil {
		return err
	}
	if after.hash(s.section, s.lenAfter(&d)) != d.Hash {
		return ErrHash
	}
	return nil
}

// Apply a delta as a whole, or change nothing and say why, see Check.
func (s *Set) Apply(d Delta) error {
	if err := s.Check(d); err != nil {
		return err
	}
	s.sum, _ = s.after(&d)
	for _, k := range d.Delete {
		s.records.remove(k)
	}
	for _, r := range d.Put {
		s.records.put(r)
	}
	s.version = d.Version
	if s.section == Tickets {
		s.records = s.records.packed() // a secret that is gone isn't kept
	}
	return nil
}

// after is the sum that a delta leads to.
func (s *Set) after(d *Delta) (sum, error) {
	records, _, _, _ := s.section.limits()
	if n := s.lenAfter(d); n > records {
		return sum{}, fmt.Errorf("%w: %d records, at most %d", ErrTooLarge, n, records)
	}
	after := s.sum
	for i, k := range d.Delete {
		old, ok := s.records.get(k)
		if !ok {
			return sum{}, fmt.Errorf("%w: it deletes %q, which isn't there", ErrBase, k)
		}
		if i > 0 && bytes.Compare(d.Delete[i-1], k) >= 0 {
			return sum{}, fmt.Errorf("%w: keys are not in order", ErrMalformed)
		}
		after.sub(recordSum(k, old))
	}
	for i, r := range d.Put {
		if i > 0 && bytes.Compare(d.Put[i-1].Key, r.Key) >= 0 {
			return sum{}, fmt.Errorf("%w: keys are not in order", ErrMalformed)
		}
		if _, both := slices.BinarySearchFunc(d.Delete, r.Key, bytes.Compare); both {
			return sum{}, fmt.Errorf("%w: %q is deleted and put", ErrMalformed, r.Key)
		}
		if err := checkRecord(s.section, r); err != nil {
			return sum{}, err
		}
		if old, ok := s.records.get(r.Key); ok {
			after.sub(recordSum(r.Key, old))
		}
		after.add(recordSum(r.Key, r.Value))
	}
	return after, nil
}

// lenAfter is the number of records that a delta leads to.
func (s *Set) lenAfter(d *Delta) int {
	n := s.Len() - len(d.Delete)
	for _, r := range d.Put {
		if !s.records.has(r.Key) {
			n++
		}
	}
	return n
}
