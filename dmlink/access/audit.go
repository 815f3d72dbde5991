package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Phase of an operation.
type Phase string

// Phases.
const (
	// Asked: somebody who may began to change something. Done or Failed follows,
	// unless the server died meanwhile.
	Asked  Phase = "asked"
	Done   Phase = "done"
	Failed Phase = "failed"
	// Refused: somebody may not.
	Refused Phase = "refused"
	// Looked: somebody was told what isn't for everybody.
	Looked Phase = "looked"
)

// Entry of the audit log. Text that is too long is cut when it is appended.
type Entry struct {
	// Number, At and Hash are given by Append.
	Number int64
	At     time.Time
	// Subject as Subject.String writes it; empty for a stranger.
	Subject string
	// Source is a network address, empty for the host itself.
	Source    string
	Operation string
	Phase     Phase
	// Of is the number of the Asked that Done and Failed end.
	Of             int64
	Object, Detail string
	// Status of HTTP, where there is an answer.
	Status int
	// Hash is an HMAC of the entry and of the hash before it.
	Hash []byte
}

// Bounds of an entry's text in octets.
const (
	maxShort  = 120
	maxObject = 300
	maxDetail = 2000
)

// cut text as a database takes it: UTF-8 without NUL, n octets at most.
func cut(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n-len("…")], "") + "…"
	}
	return s
}

// chain is the hash of an entry behind another hash: each text behind its
// length, numbers with 8 octets, big-endian.
func (a *SQL) chain(before []byte, e Entry) []byte {
	h := hmac.New(sha256.New, a.key)
	var b []byte
	number := func(n int64) { b = binary.BigEndian.AppendUint64(b, uint64(n)) }
	text := func(s string) {
		number(int64(len(s)))
		b = append(b, s...)
	}
	text("roamgate audit 1")
	text(a.instance)
	text(string(before))
	number(e.Number)
	number(e.At.UnixMicro())
	for _, s := range []string{e.Subject, e.Source, e.Operation, string(e.Phase)} {
		text(s)
	}
	number(e.Of)
	text(e.Object)
	text(e.Detail)
	number(int64(e.Status))
	h.Write(b)
	return h.Sum(nil)
}

// Append an entry; when it returns the entry is durable.
func (a *SQL) Append(ctx context.Context, e Entry) (Entry, error) {
	var done Entry
	err := a.write(ctx, func(t *database.Tx) error {
		hash, number, err := a.lockHead(t)
		if err == nil {
			done, err = a.append(t, number, hash, e)
		}
		return err
	})
	return done, err
}

// lockHead of the log until the transaction ends: the newest entry's hash and
// number.
func (a *SQL) lockHead(t *database.Tx) (hash []byte, number int64, err error) {
	// The first entry of an instance: the row is there before it is locked.
	if _, err := t.Exec(`INSERT INTO dm_access_head (instance, number, hash) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING`, a.instance, []byte{}); err != nil {
		return nil, 0, err
	}
	err = t.Row(`SELECT number, hash FROM dm_access_head WHERE instance = $1`+t.ForUpdate(), a.instance).Scan(&number, &hash)
	return hash, number, err
}

// append an entry behind the newest one, whose row is locked.
func (a *SQL) append(t *database.Tx, number int64, hash []byte, e Entry) (Entry, error) {
	e.Subject, e.Source, e.Operation = cut(e.Subject, maxShort), cut(e.Source, maxShort), cut(e.Operation, maxShort)
	e.Object, e.Detail = cut(e.Object, maxObject), cut(e.Detail, maxDetail)
	e.Number, e.At = number+1, a.moment()
	e.Hash = a.chain(hash, e)
	if _, err := t.Exec(`INSERT INTO dm_access_audit (instance, number, at_us, subject, source, operation, phase, of_number, object, detail, status, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`, a.instance, e.Number, e.At.UnixMicro(), e.Subject, e.Source, e.Operation,
		string(e.Phase), e.Of, e.Object, e.Detail, e.Status, e.Hash); err != nil {
		return e, err
	}
	_, err := t.Exec(`UPDATE dm_access_head SET number = $1, hash = $2 WHERE instance = $3`, e.Number, e.Hash, a.instance)
	return e, err
}

// AuditFilter of Audit; empty fields mean all.
type AuditFilter struct {
	Subject, Operation, Object string
	Phase                      Phase
	// Since a moment, Until before another one.
	Since, Until time.Time
	// Oldest first; otherwise the newest. After is the number of the last one
	// that was seen, 0 for none.
	Oldest bool
	After  int64
	Limit  int
}

const auditColumns = `number, at_us, subject, source, operation, phase, of_number, object, detail, status, hash`

func scanEntry(r database.Row) (e Entry, err error) {
	var at database.Instant
	var phase string
	err = r.Scan(&e.Number, &at, &e.Subject, &e.Source, &e.Operation, &phase, &e.Of, &e.Object, &e.Detail, &e.Status, &e.Hash)
	e.At, e.Phase = at.Time, Phase(phase)
	return e, err
}

// Audit log.
func (a *SQL) Audit(ctx context.Context, f AuditFilter) ([]Entry, error) {
	var w database.Where
	w.Add("instance = $%d", a.instance)
	w.Equal("subject", f.Subject)
	w.Equal("operation", f.Operation)
	w.Equal("object", f.Object)
	w.Equal("phase", string(f.Phase))
	if !f.Since.IsZero() {
		w.Add("at_us >= $%d", f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		w.Add("at_us < $%d", f.Until.UnixMicro())
	}
	order := "number DESC"
	switch {
	case f.Oldest:
		order = "number"
		w.Add("number > $%d", f.After)
	case f.After > 0:
		w.Add("number < $%d", f.After)
	}
	list, err := database.Query(ctx, a.db, scanEntry, `SELECT `+auditColumns+` FROM dm_access_audit`+w.Text(order, f.Limit), w.Args...)
	return list, unavailable(err)
}

// Head is the newest entry's number and hash; 0 if there is none.
func (a *SQL) Head(ctx context.Context) (number int64, hash []byte, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT number, hash FROM dm_access_head WHERE instance = $1`, a.instance).Scan(&number, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	return number, hash, unavailable(err)
}

// Verify reads the whole log and says whether anybody changed it, took entries
// out or put some in. ErrBroken says where. Who has the key and the database can
// write a new log: compare what Head said some time ago, kept elsewhere, as noted
// number and hash (0 for none). It returns how many entries are right, from the
// first on.
func (a *SQL) Verify(ctx context.Context, noted int64, hash []byte) (n int64, err error) {
	// The head comes first: what is appended meanwhile lies behind it.
	last, end, err := a.Head(ctx)
	if err != nil {
		return 0, err
	}
	var before []byte
	for n < last {
		page, err := a.Audit(ctx, AuditFilter{Oldest: true, After: n, Limit: database.MaxPage})
		if err != nil {
			return n, err
		}
		if len(page) == 0 {
			return n, fmt.Errorf("%w: entries %d to %d are missing", ErrBroken, n+1, last)
		}
		for _, e := range page {
			if n == last {
				break
			}
			switch {
			case e.Number != n+1:
				return n, fmt.Errorf("%w: entry %d is missing", ErrBroken, n+1)
			case !hmac.Equal(a.chain(before, e), e.Hash):
				return n, fmt.Errorf("%w: entry %d of %s was changed, or one before it", ErrBroken, e.Number, e.At.Format(time.RFC3339))
			case e.Number == noted && !hmac.Equal(hash, e.Hash):
				return n, fmt.Errorf("%w: entry %d has another hash than was noted: the log was written anew", ErrBroken, e.Number)
			}
			n, before = e.Number, e.Hash
		}
	}
	switch {
	case !hmac.Equal(before, end):
		return n, fmt.Errorf("%w: the newest entry, %d, isn't the one that was appended last", ErrBroken, n)
	case noted > last:
		return n, fmt.Errorf("%w: entry %d was noted, and the newest is %d: the end was cut off", ErrBroken, noted, last)
	}
	return n, nil
}
