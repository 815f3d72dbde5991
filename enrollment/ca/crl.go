package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CRLLifetime is the time from thisUpdate to nextUpdate. It is as long as a
// device certificate lives: the list is a file on the gateway's host or
// pushed to it, so a revocation does not wait for it to end, and an
// installation that nobody touches does not shut its devices out early.
const CRLLifetime = DeviceLifetime

// Reason of a revocation, the CRLReason of RFC 5280 section 5.3.1. The
// temporary ones, certificateHold and removeFromCRL, are not offered.
type Reason int

const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	PrivilegeWithdrawn   Reason = 9
)

// Valid says whether it is one of Reasons.
func (r Reason) Valid() bool {
	_, ok := reasonNames[r]
	return ok
}

// Reasons in the order in which help shows them.
var Reasons = []Reason{Unspecified, KeyCompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn}

var reasonNames = map[Reason]string{
	Unspecified:          "unspecified",
	KeyCompromise:        "key-compromise",
	AffiliationChanged:   "affiliation-changed",
	Superseded:           "superseded",
	CessationOfOperation: "cessation-of-operation",
	PrivilegeWithdrawn:   "privilege-withdrawn",
}

// String is the name on the command line.
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", int(r))
}

// ParseReason is the inverse of String.
func ParseReason(name string) (Reason, error) {
	for reason, known := range reasonNames {
		if name == known {
			return reason, nil
		}
	}
	return 0, fmt.Errorf("%w: revocation reason %q is none of %v", ErrRequest, name, Reasons)
}

// SerialString is a serial number as the journal and the commands show it:
// hexadecimal, lower case.
func SerialString(serial *big.Int) string {
	return fmt.Sprintf("%x", serial)
}

// ParseSerial reads hexadecimal with or without colons, as openssl and
// browsers show it too.
func ParseSerial(s string) (*big.Int, error) {
	serial, ok := new(big.Int).SetString(strings.ReplaceAll(s, ":", ""), 16)
	if !ok || serial.Sign() <= 0 || serial.BitLen() > 160 {
		return nil, fmt.Errorf("%w: serial number %q is not hexadecimal", ErrRequest, s)
	}
	return serial, nil
}

// Revoke a certificate and publish a new list. ErrRevoked means that it was
// revoked before; the list is checked and published again all the same, so
// that a revocation cut off by a crash can simply be repeated.
func (a *CA) Revoke(now time.Time, serial *big.Int, reason Reason) error {
	if a.issuer.signer == nil {
		return fmt.Errorf("%w: opened without one", ErrKey)
	}
	if !reason.Valid() {
		return fmt.Errorf("%w: revocation reason %d", ErrRequest, int(reason))
	}
	return a.locked(func() error {
		if err := a.journal.ours(); err != nil {
			return err
		}
		text := SerialString(serial)
		issued, ok := a.journal.bySerial[text]
		if !ok {
			return fmt.Errorf("%s: %w", text, ErrUnknownSerial)
		}
		var already error
		if !issued.RevokedAt.IsZero() {
			already = fmt.Errorf("%s: %w", text, ErrRevoked)
		} else if err := a.journal.append(entry{Time: now.UTC(), Event: eventRevoke, Serial: text, Name: issued.Name, Reason: reason}); err != nil {
			return err
		}
		if err := a.publishIfDue(now); err != nil {
			return err
		}
		return already
	})
}

// PublishCRL writes a new revocation list, due or not.
func (a *CA) PublishCRL(now time.Time) error {
	return a.locked(func() error {
		if err := a.journal.ours(); err != nil {
			return err
		}
		return a.publish(now)
	})
}

// CRL is the published list. It is an fs.ErrNotExist if there is none.
func (a *CA) CRL() (*x509.RevocationList, error) {
	path := filepath.Join(a.dir, CRLFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "X509 CRL" {
		return nil, fmt.Errorf("%s is not a revocation list in PEM", path)
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// publishIfDue publishes if the file is missing, damaged, behind the journal
// or half-way to its nextUpdate. The lock is held.
func (a *CA) publishIfDue(now time.Time) error {
	list, err := a.CRL()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		var unreadable *fs.PathError
		if errors.As(err, &unreadable) {
			return err
		}
	}
	if err == nil && !a.journal.behind && list.Number != nil &&
		list.Number.Cmp(big.NewInt(a.journal.number)) == 0 &&
		now.Before(list.NextUpdate.Add(-CRLLifetime/2)) {
		return nil
	}
	return a.publish(now)
}

// publish numbers a list in the journal first: a number that was taken is
// never used for another list, whatever happens between the two writes. The
// lock is held.
func (a *CA) publish(now time.Time) error {
	list := List{Number: a.journal.number + 1, ThisUpdate: now, NextUpdate: now.Add(CRLLifetime)}
	for _, issued := range a.journal.issued {
		if issued.RevokedAt.IsZero() || !staysListed(issued.NotAfter, now) {
			continue
		}
		serial, err := ParseSerial(issued.Serial)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrJournal, err)
		}
		list.Revoked = append(list.Revoked, Revocation{serial, issued.RevokedAt, issued.Reason})
	}
	der, err := a.issuer.SignList(list)
	if err != nil {
		return err
	}
	if err := a.journal.append(entry{Time: now.UTC(), Event: eventCRL, Number: list.Number, NotAfter: list.NextUpdate.UTC()}); err != nil {
		return err
	}
	return WriteFile(filepath.Join(a.dir, CRLFile), EncodeList(der), 0o644, true)
}

// staysListed says whether a revoked certificate that ends at notAfter is still
// on a list of now: its entry stays beyond its end (RFC 5280 section 3.3); a
// whole lifetime of the list is long enough.
func staysListed(notAfter, now time.Time) bool {
	return !notAfter.Add(CRLLifetime).Before(now)
}

// EncodeList is a revocation list in PEM.
func EncodeList(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
