package ca

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// event of a journal entry.
type event string

const (
	eventInit   event = "init"
	eventIssue  event = "issue"
	eventRevoke event = "revoke"
	eventCRL    event = "crl"
	// eventHandOver ends a journal: the record is kept elsewhere from there on.
	eventHandOver event = "hand-over"
)

// entry of the journal. Its JSON names are an interface: auditors read them.
type entry struct {
	Time  time.Time `json:"time"`
	Event event     `json:"event"`
	// Serial in hexadecimal: issue, revoke.
	Serial    string    `json:"serial,omitempty"`
	Profile   Profile   `json:"profile,omitempty"`
	Name      string    `json:"name,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// SHA256 is the fingerprint of the certificate in hexadecimal: init (the
	// root), issue.
	SHA256 string `json:"sha256,omitempty"`
	// Reason is the code of RFC 5280 section 5.3.1: revoke.
	Reason Reason `json:"reason,omitempty"`
	// Number of a revocation list: crl.
	Number int64 `json:"number,omitempty"`
	// InstanceOID: init.
	InstanceOID string `json:"instance_oid,omitempty"`
	// To is who keeps the record: hand-over.
	To string `json:"to,omitempty"`
}

// Issued is what the journal knows of one certificate.
type Issued struct {
	Serial    string    `json:"serial"`
	Profile   Profile   `json:"profile"`
	Name      string    `json:"name"`
	IssuedAt  time.Time `json:"issued_at"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Reason    Reason    `json:"reason,omitempty"`
}

// journal and what it says so far. It is used only between lock and unlock.
type journal struct {
	file     *os.File
	offset   int64 // everything before it was read
	lines    int
	issued   []*Issued
	bySerial map[string]*Issued
	// number of the newest revocation list, and whether something was revoked
	// after it.
	number int64
	behind bool
	// handedOver to whom; empty while the record is kept here.
	handedOver string
}

// ours is an ErrHandedOver where the record is kept elsewhere.
func (j *journal) ours() error {
	if j.handedOver != "" {
		return fmt.Errorf("%w: by %s", ErrHandedOver, j.handedOver)
	}
	return nil
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &journal{file: f, bySerial: make(map[string]*Issued)}, nil
}

// lock waits for its turn among processes and reads what the others wrote.
func (j *journal) lock() error {
	for {
		err := unix.Flock(int(j.file.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("lock %s: %w", j.file.Name(), err)
		}
	}
	if err := j.catchUp(); err != nil {
		j.unlock()
		return err
	}
	return nil
}

func (j *journal) unlock() {
	// Closing the file would release it too; there is nothing to do about an
	// error.
	_ = unix.Flock(int(j.file.Fd()), unix.LOCK_UN)
}

func (j *journal) catchUp() error {
	data, err := io.ReadAll(io.NewSectionReader(j.file, j.offset, 1<<62))
	if err != nil {
		return err
	}
	complete := bytes.LastIndexByte(data, '\n') + 1
	for line := range bytes.Lines(data[:complete]) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%w: %s line %d: %w", ErrJournal, j.file.Name(), j.lines+1, err)
		}
		if err := j.take(e); err != nil {
			return fmt.Errorf("%w: %s line %d: %w", ErrJournal, j.file.Name(), j.lines+1, err)
		}
		j.lines++
		j.offset += int64(len(line))
	}
	if complete == len(data) {
		return nil
	}
	// We have the lock, so nobody is still writing this half line: its writer
	// died before fsync returned, and handed nothing out.
	if err := j.file.Truncate(j.offset); err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) take(e entry) error {
	if j.handedOver != "" {
		return fmt.Errorf("event %q after the hand-over", e.Event)
	}
	switch e.Event {
	case eventInit:
	case eventHandOver:
		if e.To == "" {
			return errors.New("hand-over to nobody")
		}
		j.handedOver = e.To
	case eventIssue:
		if _, ok := j.bySerial[e.Serial]; ok || e.Serial == "" {
			return fmt.Errorf("serial %q was issued before", e.Serial)
		}
		i := &Issued{
			Serial: e.Serial, Profile: e.Profile, Name: e.Name, IssuedAt: e.Time,
			NotBefore: e.NotBefore, NotAfter: e.NotAfter, SHA256: e.SHA256,
		}
		j.issued = append(j.issued, i)
		j.bySerial[i.Serial] = i
	case eventRevoke:
		i, ok := j.bySerial[e.Serial]
		if !ok {
			return fmt.Errorf("serial %q was never issued", e.Serial)
		}
		i.RevokedAt, i.Reason = e.Time, e.Reason
		j.behind = true
	case eventCRL:
		if e.Number <= j.number {
			return fmt.Errorf("revocation list %d after %d", e.Number, j.number)
		}
		j.number, j.behind = e.Number, false
	default:
		return fmt.Errorf("event %q", e.Event)
	}
	return nil
}

// append returns once the entry is on disk. The lock is held.
func (j *journal) append(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if _, err := j.file.Write(line); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.lines++
	j.offset += int64(len(line))
	return j.take(e)
}
