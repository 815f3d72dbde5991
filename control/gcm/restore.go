package gcm

import (
	"fmt"
	"iter"
)

// Restore makes a set of records that were kept in a file, and holds them to the
// same rules as those from the wire. Errors: those of Load, and ErrHash if the
// content isn't what want says.
func Restore(section Section, v Version, want Hash, records iter.Seq[Record]) (*Set, error) {
	s, err := Load(section, v, func(yield func(Record, error) bool) {
		for r := range records {
			if !yield(r, nil) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if s.Hash() != want {
		return nil, ErrHash
	}
	return s, nil
}

// Load makes a set of records that are read one after the other, such as rows of
// a database. It ends with the first error that comes instead of a record.
// Errors: ErrMalformed for a key that comes twice, ErrTooLarge, ErrRecord.
func Load(section Section, v Version, records iter.Seq2[Record, error]) (*Set, error) {
	s, err := NewSet(section)
	if err != nil {
		return nil, err
	}
	s.version = v
	most, _, _, _ := section.limits()
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		if s.records.len() == most {
			return nil, fmt.Errorf("%w: more than %d records", ErrTooLarge, most)
		}
		if err := checkRecord(section, r); err != nil {
			return nil, err
		}
		if s.records.has(r.Key) {
			return nil, fmt.Errorf("%w: %q comes twice", ErrMalformed, r.Key)
		}
		s.sum.add(recordSum(r.Key, r.Value))
		s.records.put(r)
	}
	return s, nil
}
