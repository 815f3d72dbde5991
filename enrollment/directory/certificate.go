package directory

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
)

const certificateColumns = `serial, authority, profile, name, device_name, request, renews, key_hash, der, sha256,
	issued_us, not_before_us, not_after_us, revoked_us, reason FROM directory_certificate`

func scanCertificate(r database.Row) (c Certificate, err error) {
	var (
		device, request, renews              database.Text
		issued, notBefore, notAfter, revoked database.Instant
	)
	err = r.Scan(&c.Serial, &c.Authority, &c.Profile, &c.Name, &device, &request, &renews, &c.KeyHash, &c.DER, &c.SHA256,
		&issued, &notBefore, &notAfter, &revoked, &c.Reason)
	c.Device, c.Request, c.Renews = string(device), string(request), string(renews)
	c.Issued, c.NotBefore, c.NotAfter, c.Revoked = issued.Time, notBefore.Time, notAfter.Time, revoked.Time
	return c, err
}

// Signed is a certificate that was signed and is to be recorded.
type Signed struct {
	Authority   string
	Profile     ca.Profile
	Certificate *x509.Certificate
	// KeyHash is otp.HashPublicKey of its key.
	KeyHash []byte
}

func (t *tx) putCertificate(s Signed, device string, request string, renews string, at time.Time) error {
	c := s.Certificate
	sum := sha256.Sum256(c.Raw)
	_, err := t.Exec(`INSERT INTO directory_certificate (serial, authority, profile, name, device_name, request, renews,
			key_hash, der, sha256, issued_us, not_before_us, not_after_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		ca.SerialString(c.SerialNumber), s.Authority, s.Profile, c.Subject.CommonName, database.OrNull(device), database.OrNull(request), database.OrNull(renews),
		s.KeyHash, c.Raw, sum[:], at.UnixMicro(), c.NotBefore.UnixMicro(), c.NotAfter.UnixMicro())
	return err
}

// Enrollment uses up a request.
type Enrollment struct {
	Request otp.ID
	Signed  Signed
	// Secret is what is kept sealed in place of the request's (otp.Bind).
	Secret []byte
	At     time.Time
	By     By
	// Detail for the audit record.
	Detail string
}

// Enroll makes the device if need be, revokes its older certificates as
// superseded and records the new one.
//
// ErrNotOpen: somebody was faster; read the request again. ErrKeyTaken,
// ErrOwner: the certificate must not leave, and the request is still open.
func (d *SQL) Enroll(ctx context.Context, e Enrollment) error {
	return d.tells(ctx, func(t *tx) error {
		q, err := scanRequest(t.Row(`SELECT `+requestColumns+` WHERE r.id = $1`+t.ForUpdateOf("r"), e.Request.String()))
		if err != nil {
			return found(err, "request", e.Request.String())
		}
		if q.State != Open || !e.At.Before(q.Expires) {
			return fmt.Errorf("request %s: %w", e.Request, ErrNotOpen)
		}
		if err := t.putDevice(q, e.At); err != nil {
			return err
		}
		if err := t.claimKey(e.Signed.KeyHash, q.Device); err != nil {
			return err
		}
		if err := t.supersede(q, e); err != nil {
			return err
		}
		if err := t.putCertificate(e.Signed, q.Device, e.Request.String(), "", e.At); err != nil {
			return err
		}
		serial := ca.SerialString(e.Signed.Certificate.SerialNumber)
		if _, err := t.Exec(`UPDATE directory_request SET state = $1, secret = $2, closed_us = $3, key_hash = $4, serial = $5 WHERE id = $6`,
			Used, e.Secret, e.At.UnixMicro(), e.Signed.KeyHash, serial, e.Request.String()); err != nil {
			return err
		}
		if err := t.tell(Event{At: e.At, Kind: Enrolled, Device: q.Device, User: q.User, Groups: q.Groups,
			Serial: serial, Until: e.Signed.Certificate.NotAfter}); err != nil {
			return err
		}
		return t.audit(Entry{At: e.At, By: e.By, Action: ActEnroll, Request: e.Request.String(), Device: q.Device, Serial: serial, Detail: e.Detail})
	})
}

// putDevice makes or reopens the device of a request, and locks its row.
func (t *tx) putDevice(q Request, at time.Time) error {
	if _, err := t.Exec(`INSERT INTO directory_device (name, user_name, state, created_us) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO NOTHING`, q.Device, q.User, "open", at.UnixMicro()); err != nil {
		return err
	}
	n, err := t.Exec(`UPDATE directory_device SET state = $1, closed_us = NULL WHERE name = $2 AND user_name = $3`, "open", q.Device, q.User)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("device %q: %w", q.Device, ErrOwner)
	}
	if _, err := t.Exec(`DELETE FROM directory_member WHERE device_name = $1`, q.Device); err != nil {
		return err
	}
	if err := t.putGroups(q.Groups, at); err != nil {
		return err
	}
	for _, group := range q.Groups {
		if _, err := t.Exec(`INSERT INTO directory_member (device_name, group_name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, q.Device, group); err != nil {
			return err
		}
	}
	return nil
}

// claimKey for a device; who had it first keeps it.
func (t *tx) claimKey(hash []byte, device string) error {
	if _, err := t.Exec(`INSERT INTO directory_key (hash, device_name) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, hash, device); err != nil {
		return err
	}
	var owner string
	if err := t.Row(`SELECT device_name FROM directory_key WHERE hash = $1`, hash).Scan(&owner); err != nil {
		return err
	}
	if owner != device {
		return fmt.Errorf("key %x of device %q: %w", hash[:8], owner, ErrKeyTaken)
	}
	return nil
}

// supersede revokes what the device had before.
func (t *tx) supersede(q Request, e Enrollment) error {
	serials, err := query(t.Context(), t, database.Scan[string], `UPDATE directory_certificate SET revoked_us = $1, reason = $2
		WHERE device_name = $3 AND revoked_us IS NULL AND not_after_us > $4 RETURNING serial`,
		e.At.UnixMicro(), int64(ca.Superseded), q.Device, e.At.UnixMicro())
	if err != nil {
		return err
	}
	for _, serial := range serials {
		if err := t.tell(Event{At: e.At, Kind: Revoked, Device: q.Device, User: q.User, Groups: q.Groups, Serial: serial, Reason: ca.Superseded}); err != nil {
			return err
		}
		if err := t.audit(Entry{At: e.At, By: e.By, Action: ActSupersede, Request: e.Request.String(), Device: q.Device, Serial: serial}); err != nil {
			return err
		}
	}
	return nil
}

// Renewal records a further certificate of a device.
type Renewal struct {
	// Renews is the serial number of the certificate with which it asked.
	Renews string
	Signed Signed
	At     time.Time
	By     By
	Detail string
	// Most certificates of one device by renewal since Since.
	Most  int
	Since time.Time
}

// Renew records a certificate.
//
// ErrRenewed: one with the same key was made from that certificate before, see
// RenewalOf. ErrRevoked, ErrClosed, ErrKeyTaken and ErrTooMany: the
// certificate must not leave.
func (d *SQL) Renew(ctx context.Context, n Renewal) error {
	return d.tells(ctx, func(t *tx) error {
		old, err := scanCertificate(t.Row(`SELECT `+certificateColumns+` WHERE serial = $1`, n.Renews))
		if err != nil {
			return found(err, "certificate", n.Renews)
		}
		// The device's row, locked first, puts renewals and closing in an order.
		device, err := t.device(old.Device)
		if err != nil {
			return err
		}
		if !device.Open {
			return fmt.Errorf("device %q: %w", device.Name, ErrClosed)
		}
		if old, err = scanCertificate(t.Row(`SELECT `+certificateColumns+` WHERE serial = $1`+t.ForUpdate(), n.Renews)); err != nil {
			return err
		}
		if !old.Revoked.IsZero() {
			return fmt.Errorf("certificate %s: %w", n.Renews, ErrRevoked)
		}
		var again bool
		if err := t.Row(`SELECT EXISTS (SELECT 1 FROM directory_certificate WHERE renews = $1 AND key_hash = $2 AND revoked_us IS NULL)`,
			n.Renews, n.Signed.KeyHash).Scan(&again); err != nil {
			return err
		}
		if again {
			return fmt.Errorf("certificate %s: %w", n.Renews, ErrRenewed)
		}
		var lately int
		if err := t.Row(`SELECT COUNT(*) FROM directory_certificate WHERE device_name = $1 AND issued_us > $2 AND renews IS NOT NULL`,
			device.Name, n.Since.UnixMicro()).Scan(&lately); err != nil {
			return err
		}
		if lately >= n.Most {
			return fmt.Errorf("%d renewals of device %q: %w", lately, device.Name, ErrTooMany)
		}
		if err := t.claimKey(n.Signed.KeyHash, device.Name); err != nil {
			return err
		}
		if err := t.putCertificate(n.Signed, device.Name, "", n.Renews, n.At); err != nil {
			return err
		}
		serial := ca.SerialString(n.Signed.Certificate.SerialNumber)
		if err := t.tell(Event{At: n.At, Kind: Renewed, Device: device.Name, User: device.User, Groups: device.Groups,
			Serial: serial, Until: n.Signed.Certificate.NotAfter}); err != nil {
			return err
		}
		return t.audit(Entry{At: n.At, By: n.By, Action: ActRenew, Device: device.Name, Serial: serial, Detail: n.Detail})
	})
}

// RenewalOf is the certificate that renewed another one with a key.
func (d *SQL) RenewalOf(ctx context.Context, serial string, keyHash []byte) (Certificate, error) {
	c, err := scanCertificate(d.db.QueryRowContext(ctx, `SELECT `+certificateColumns+`
		WHERE renews = $1 AND key_hash = $2 AND revoked_us IS NULL ORDER BY issued_us DESC LIMIT 1`, serial, keyHash))
	return c, found(err, "renewal of certificate", serial)
}

// Certify records a certificate that is not a device's.
func (d *SQL) Certify(ctx context.Context, by By, s Signed, at time.Time) error {
	return d.write(ctx, func(t *tx) error {
		if err := t.putCertificate(s, "", "", "", at); err != nil {
			return err
		}
		return t.audit(Entry{At: at, By: by, Action: ActCertify, Serial: ca.SerialString(s.Certificate.SerialNumber),
			Detail: fmt.Sprintf("%s %s", s.Profile, s.Certificate.Subject.CommonName)})
	})
}

// Certificate by its serial number (ca.SerialString).
func (d *SQL) Certificate(ctx context.Context, serial string) (Certificate, error) {
	c, err := scanCertificate(d.db.QueryRowContext(ctx, `SELECT `+certificateColumns+` WHERE serial = $1`, serial))
	return c, found(err, "certificate", serial)
}

// CertificateFilter; its zero value means all.
type CertificateFilter struct {
	Device  string
	Name    string
	Profile ca.Profile
	// ValidAt leaves out what is revoked or ended before.
	ValidAt time.Time
	// After is the serial of the last one that was seen; Limit as in
	// RequestFilter.
	After string
	Limit int
}

// Certificates in the order of their serial numbers.
func (d *SQL) Certificates(ctx context.Context, f CertificateFilter) ([]Certificate, error) {
	var w database.Where
	w.Equal("device_name", f.Device)
	w.Equal("name", f.Name)
	w.Equal("profile", string(f.Profile))
	if !f.ValidAt.IsZero() {
		w.Add("revoked_us IS NULL AND not_after_us > $%d", f.ValidAt.UnixMicro())
	}
	w.After("serial", f.After)
	return query(ctx, d.db, scanCertificate, `SELECT `+certificateColumns+w.Text("serial", f.Limit), w.Args...)
}

// TakeOver records what another keeper of the CA's record knew (ca.HandOver).
// Doing it again changes nothing.
func (d *SQL) TakeOver(ctx context.Context, by By, authority string, r ca.Record, now time.Time) error {
	return d.write(ctx, func(t *tx) error {
		added := int64(0)
		for _, i := range r.Issued {
			sum, err := hex.DecodeString(i.SHA256)
			if err != nil {
				return fmt.Errorf("fingerprint of %s: %w", i.Serial, err)
			}
			n, err := t.Exec(`INSERT INTO directory_certificate (serial, authority, profile, name, sha256, issued_us,
					not_before_us, not_after_us, revoked_us, reason)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (serial) DO NOTHING`,
				i.Serial, authority, i.Profile, i.Name, sum, i.IssuedAt.UnixMicro(),
				i.NotBefore.UnixMicro(), i.NotAfter.UnixMicro(), database.Micros(i.RevokedAt), int64(i.Reason))
			if err != nil {
				return err
			}
			added += n
		}
		if _, err := t.Exec(`UPDATE directory_authority SET number = $1 WHERE id = $2 AND number < $3`, r.Number, authority, r.Number); err != nil {
			return err
		}
		return t.audit(Entry{At: now, By: by, Action: ActTakeOver, Detail: fmt.Sprintf("%d certificates of %s, revocation list %d", added, authority, r.Number)})
	})
}
