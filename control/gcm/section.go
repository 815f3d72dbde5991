package gcm

import (
	"cmp"
	"errors"
	"fmt"
)

// Section names one of the documents. Its text is part of the protocol.
type Section string

// Sections.
const (
	Devices   Section = "devices"
	Access    Section = "access"
	Addresses Section = "addresses"
	Tickets   Section = "tickets"
	Settings  Section = "settings"
	Trust     Section = "trust"
)

// Sections in the order in which a manager sends them: what takes something
// away from devices comes first.
var Sections = []Section{Devices, Trust, Tickets, Access, Addresses, Settings}

// limits of a section: records, and octets of one record's key and value.
func (s Section) limits() (records, key, value int, ok bool) {
	switch s {
	case Devices:
		return 4 << 20, 96, 1 << 10, true
	case Access:
		return 1 << 10, 64, 256 << 10, true
	case Addresses:
		return 1 << 16, 64, 1 << 10, true
	case Tickets:
		return 256, 64, 256, true
	case Settings:
		return 256, 64, 64 << 10, true
	case Trust:
		return 256, 64, 8 << 10, true
	}
	return 0, 0, 0, false
}

// Version of a section. The zero value is older than all others: nothing was
// ever received.
type Version struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"number"`
}

// MaxEpochStep is how far an epoch may be ahead of the highest one that a gateway
// has, in one document; one that has none takes any. A manager takes the next one; who has stolen a manager's
// key and takes the last there is would keep every other manager out.
const MaxEpochStep = 1 << 20

// Compare orders versions.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, w.Epoch), cmp.Compare(v.Number, w.Number))
}

// String is epoch and number with a dot between them.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Number) }

// Errors of documents, wrapped. None of them leaves anything changed.
var (
	// ErrMalformed: octets that are no document, or not in canonical form.
	ErrMalformed = errors.New("malformed document")
	// ErrTooLarge: more records, or longer ones, than the section may have.
	ErrTooLarge = errors.New("document is too large")
	// ErrStale: the version isn't newer than what is there.
	ErrStale = errors.New("document is not newer")
	// ErrEpoch: the epoch is too far ahead of what is there, see MaxEpochStep.
	ErrEpoch = errors.New("document's epoch is too far ahead")
	// ErrBase: a delta that starts from something else than what is there. A
	// snapshot helps.
	ErrBase = errors.New("delta has another base")
	// ErrHash: the content doesn't have the hash that it says.
	ErrHash = errors.New("document has another hash than it says")
	// ErrRecord: a record that no section of this kind has, or with a value
	// that isn't valid; the text says which.
	ErrRecord = errors.New("invalid record")
)
