package gcm

import (
	"fmt"
	"iter"
)

// Restore makes a set of records that were kept in a file or a database, and
// holds them to the same rules as those from the wire. Errors: ErrMalformed for
// a key that comes twice, ErrTooLarge, ErrRecord, and ErrHash if the content
// isn't what want says.
func Restore(section Section, v Version, want Hash, records iter.Seq[Record]) (*Set, error) {
	s, err := NewSet(section)
	if err != nil {
		return nil, err
	}
	s.version = v
	most, _, _, _ := section.limits()
	for r := range records {
		if len(s.records) == most {
			return nil, fmt.Errorf("%w: more than %d records", ErrTooLarge, most)
		}
		if err := checkRecord(section, r); err != nil {
			return nil, err
		}
		if _, twice := s.records[string(r.Key)]; twice {
			return nil, fmt.Errorf("%w: %q comes twice", ErrMalformed, r.Key)
		}
		s.sum.add(recordSum(r.Key, r.Value))
		s.records[string(r.Key)] = string(r.Value)
	}
	if s.Hash() != want {
		return nil, ErrHash
	}
	return s, nil
}
