package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/dmlink/session"
)

var _ session.Accounts = (*SQL)(nil)

// PutAccount replaces the account of an open device. Idle and InfoDigest aren't
// looked at.
func (d *SQL) PutAccount(ctx context.Context, device string, a session.Account) error {
	sealed, err := d.sealAccount(device, a)
	if err != nil {
		return err
	}
	return d.write(ctx, func(t *tx) error { return t.putAccount(device, sealed) })
}

// sealedAccount is an account as it is written.
type sealedAccount struct {
	session.Account
	secret, serverSecret []byte
}

func (d *SQL) sealAccount(device string, a session.Account) (*sealedAccount, error) {
	s := &sealedAccount{Account: a}
	var err error
	if s.secret, err = d.seal.seal(device, "secret", a.Password); err != nil {
		return nil, err
	}
	s.serverSecret, err = d.seal.seal(device, "server_secret", a.ServerPassword)
	return s, err
}

func (t *tx) putAccount(device string, a *sealedAccount) error {
	n, err := t.Exec(`UPDATE dm_device SET scheme = $1, account = $2, secret = $3, nonce = $4,
			server_account = $5, server_secret = $6, server_nonce = $7 WHERE name = $8 AND state = 'open'`,
		int64(a.Scheme), a.Name, blob(a.secret), blob(a.Nonce), a.ServerName, blob(a.serverSecret), blob(a.ServerNonce), device)
	return one(n, err, "open device", device)
}

// one row was changed, otherwise ErrNotFound.
func one(n int64, err error, what, name string) error {
	if err == nil && n == 0 {
		return fmt.Errorf("%s %q: %w", what, name, ErrNotFound)
	}
	return err
}

const accountText = `SELECT scheme, account, secret, nonce, server_account, server_secret, server_nonce, info_digest,
	EXISTS (SELECT 1 FROM dm_command WHERE device_name = dm_device.name AND state = 'waiting')
	FROM dm_device WHERE name = $1 AND state = 'open'`

// Account implements session.Accounts: one statement of two probes of indices.
func (d *SQL) Account(ctx context.Context, device string) (a session.Account, err error) {
	var secret, serverSecret []byte
	var scheme int64
	var waits bool
	err = d.db.Prepared().QueryRowContext(ctx, accountText, device).
		Scan(&scheme, &a.Name, &secret, &a.Nonce, &a.ServerName, &serverSecret, &a.ServerNonce, &a.InfoDigest, &waits)
	if errors.Is(err, sql.ErrNoRows) {
		return a, fmt.Errorf("device %q: %w", device, session.ErrNoAccount)
	}
	if err != nil {
		return a, unavailable(err)
	}
	a.Scheme, a.Idle = session.Scheme(scheme), !waits
	if a.Password, err = d.seal.open(device, "secret", secret); err != nil {
		return session.Account{}, err
	}
	if a.ServerPassword, err = d.seal.open(device, "server_secret", serverSecret); err != nil {
		a.Erase()
		return session.Account{}, err
	}
	return a, nil
}

// UseNonce implements session.Accounts. The same octets compare, NULL being
// none.
func (d *SQL) UseNonce(ctx context.Context, device string, used, next []byte) error {
	return d.write(ctx, func(t *tx) error {
		var now []byte
		err := t.Row(`SELECT nonce FROM dm_device WHERE name = $1 AND state = 'open'`+t.ForUpdate(), device).Scan(&now)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("device %q: %w", device, session.ErrNoAccount)
		}
		if err != nil {
			return err
		}
		if string(now) != string(used) {
			return session.ErrNonceUsed
		}
		_, err = t.Exec(`UPDATE dm_device SET nonce = $1 WHERE name = $2`, blob(next), device)
		return err
	})
}

// ServerNonce implements session.Accounts.
func (d *SQL) ServerNonce(ctx context.Context, device string, next []byte) error {
	return d.write(ctx, func(t *tx) error {
		n, err := t.Exec(`UPDATE dm_device SET server_nonce = $1 WHERE name = $2 AND state = 'open'`, blob(next), device)
		return one(n, err, "open device", device)
	})
}
