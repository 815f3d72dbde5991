package fleet

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// attemptTime is how long one manager has to renew a certificate before another
// one tries.
const attemptTime = 10 * time.Minute

// keepCertificates of gateways: renewed when a third of their time is left. One
// that was revoked isn't, although its gateway has the key still: whoever wants it
// back removes it and adds it again.
func (f *Fleet) keepCertificates(ctx context.Context) error {
	all, err := f.Gateways(ctx)
	var wrong []error
	for _, g := range all {
		if due := g.Certified.Add(g.Expires.Sub(g.Certified) * 2 / 3); g.Revoked || f.Now().Before(due) {
			continue
		}
		if err := f.renew(ctx, g); err != nil {
			wrong = append(wrong, fmt.Errorf("renew the certificate of gateway %s: %w", g.Name, err))
		}
	}
	return errors.Join(append(wrong, err)...)
}

func (f *Fleet) renew(ctx context.Context, g Gateway) error {
	var mine int64
	now := f.Now()
	err := f.db.Write(ctx, func(t *database.Tx) (err error) {
		mine, err = t.Exec(`UPDATE gcm_gateway SET attempt_us = $1 WHERE name = $2 AND attempt_us < $3 AND revoked = 0`,
			now.UnixMicro(), g.Name, now.Add(-attemptTime).UnixMicro())
		return err
	})
	if err != nil || mine == 0 {
		return err
	}
	var leaf *x509.Certificate
	err = f.certify(ctx, g.Gateway, g.Fingerprint, func(ctx context.Context, signed *x509.Certificate) error {
		leaf = signed
		return f.renewed(ctx, g, leaf)
	})
	if err != nil {
		return err
	}
	f.Log.Info("the certificate of a gateway is renewed", slog.String("gateway", g.Name), slog.Time("until", leaf.NotAfter))
	return f.db.Write(ctx, func(t *database.Tx) error {
		if _, err := t.Exec(`UPDATE gcm_gateway SET certified_us = $1, expires_us = $2 WHERE name = $3`, now.UnixMicro(), leaf.NotAfter.UnixMicro(), g.Name); err != nil {
			return err
		}
		_, err := t.Exec(`DELETE FROM gcm_certificate WHERE gateway = $1 AND until_us < $2`, g.Name, now.UnixMicro())
		return err
	})
}

// certify a gateway; signed is told what before the gateway is given it.
func (f *Fleet) certify(ctx context.Context, g push.Gateway, known push.Fingerprint, signed func(context.Context, *x509.Certificate) error) error {
	return f.push.Certify(ctx, g, &known, func(ctx context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
		chain, err := f.Sign(ctx, g, request)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(chain)
		if block == nil {
			return nil, fmt.Errorf("%w: no certificate was signed", ErrInvalid)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return chain, signed(ctx, leaf)
	})
}

// renewed is a gateway's certificate, which may be revoked from now on, whether the
// gateway gets it or not. Error: errUnwanted, where it isn't to have it.
func (f *Fleet) renewed(ctx context.Context, g Gateway, leaf *x509.Certificate) error {
	var revoked bool
	err := f.change(ctx, func(c *change) error {
		// Another one of that name, added meanwhile, has nothing to do with it.
		var wanted bool
		err := c.Row(`SELECT EXISTS (SELECT 1 FROM gcm_gateway WHERE name = $1 AND fingerprint = $2 AND revoked = 0)`, g.Name, g.Fingerprint[:]).Scan(&wanted)
		if err == nil && !wanted {
			err = errUnwanted
		}
		if err != nil {
			return err
		}
		revoked, err = c.signed(g.Name, leaf)
		return err
	}, registry)
	if err == nil && revoked {
		err = errUnwanted
	}
	return err
}

var errUnwanted = errors.New("the gateway was revoked or removed meanwhile")

// signed is a certificate for a gateway. If it is revoked already so is the
// gateway, which is said. The registry's row is locked, as it is for a revocation:
// one of the two sees the other.
func (c *change) signed(gateway string, leaf *x509.Certificate) (revoked bool, err error) {
	serial := leaf.SerialNumber.Bytes()
	if _, err := c.Exec(`INSERT INTO gcm_certificate (serial, gateway, until_us) VALUES ($1, $2, $3)`, serial, gateway, leaf.NotAfter.UnixMicro()); err != nil {
		return false, err
	}
	err = c.Row(`SELECT EXISTS (SELECT 1 FROM gcm_revocation WHERE serial = $1 AND reason <> $2)`, serial, superseded).Scan(&revoked)
	if err == nil && revoked {
		err = c.revoked(serial)
	}
	return revoked, err
}

// revoked is a certificate, of a gateway if of anything that is registered.
func (c *change) revoked(serial []byte) error {
	n, err := c.Exec(`UPDATE gcm_gateway SET revoked = 1 WHERE name = (SELECT gateway FROM gcm_certificate WHERE serial = $1)`, serial)
	if n > 0 {
		c.touch(registry)
	}
	return err
}
