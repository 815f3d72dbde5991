package ca

import (
	"fmt"
	"time"
)

// Record of a CA, as another keeper takes it over.
type Record struct {
	Issued []Issued
	// Number of the newest revocation list; the next one has a higher number.
	Number int64
}

// HandOver gives the record of what was issued to another keeper: two records
// of one CA would be two revocation lists that contradict each other. take must
// have everything on disk when it returns; it may be called again after a
// crash. From then on Issue, Revoke and PublishCRL are ErrHandedOver. If the
// record was handed to the same keeper before, nothing happens.
func (a *CA) HandOver(now time.Time, to string, take func(Record) error) error {
	return a.locked(func() error {
		switch a.journal.handedOver {
		case to:
			return nil
		case "":
		default:
			return a.journal.ours()
		}
		r := Record{Number: a.journal.number}
		for _, i := range a.journal.issued {
			r.Issued = append(r.Issued, *i)
		}
		if err := take(r); err != nil {
			return fmt.Errorf("hand-over to %s: %w", to, err)
		}
		return a.journal.append(entry{Time: now.UTC(), Event: eventHandOver, To: to})
	})
}

// KeepsRecord is an ErrHandedOver where the record is kept elsewhere.
func (a *CA) KeepsRecord() error {
	return a.locked(a.journal.ours)
}
