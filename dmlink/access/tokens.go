package access

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// CreateToken makes a token with roles, for a lifetime (zero: DefaultLifetime).
// The secret is told here and never again. ErrExists: the name was used, be it
// by a token that is over: names in the audit log mean one token for ever. One that
// a token makes ends with it. ErrInvalid also after maxMakers tokens that made one
// another.
func (a *SQL) CreateToken(ctx context.Context, name string, roles Set, lifetime time.Duration, by Subject) (Token, *Secret, error) {
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	switch {
	case !IsName(name):
		return Token{}, nil, fmt.Errorf("%w: a token's name has 1 to %d octets, and no control characters", ErrInvalid, MaxName)
	case roles&Everybody == Nobody:
		return Token{}, nil, fmt.Errorf("%w: a token without a role may do nothing", ErrInvalid)
	case lifetime < MinLifetime || lifetime > MaxLifetime:
		return Token{}, nil, fmt.Errorf("%w: a lifetime of %v, must be from %v to %v", ErrInvalid, lifetime, MinLifetime, MaxLifetime)
	}
	if err := a.mayMake(ctx, by); err != nil {
		return Token{}, nil, err
	}
	maker, err := a.standing(ctx, by, 0)
	if err != nil {
		return Token{}, nil, err
	}
	now := a.moment()
	k := Token{Name: name, Roles: roles, own: roles & maker, Created: now, By: by, Expires: now.Add(lifetime)}
	if by.Kind == ByToken {
		made, err := a.token(ctx, by.Name)
		if err != nil {
			return Token{}, nil, err
		}
		if made.Expires.Before(k.Expires) {
			k.Expires = made.Expires
		}
	}
	s := newSecret()
	k.ID = s.ID()
	digest := s.digest(a.instance)
	err = a.write(ctx, func(t *database.Tx) error {
		n, err := t.Exec(`INSERT INTO dm_access_token (instance, id, name, digest, roles, own, created_us, created_by, expires_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			a.instance, k.ID, name, digest[:], int64(roles), int64(k.own), now.UnixMicro(), by.String(), k.Expires.UnixMicro())
		if err == nil && n == 0 {
			err = fmt.Errorf("token %q: %w", name, ErrExists)
		}
		return err
	})
	if err != nil {
		s.Erase()
		return Token{}, nil, err
	}
	k.May = k.lent(maker)
	return k, s, nil
}

const tokenColumns = `id, name, roles, own, created_us, created_by, expires_us, used_us, revoked_us`

func scanToken(r database.Row) (k Token, err error) { return k, scanTokenInto(&k, r) }

func scanTokenInto(k *Token, r database.Row, more ...any) error {
	var roles, own int64
	var by string
	var created, expires, used, revoked database.Instant
	if err := r.Scan(append([]any{&k.ID, &k.Name, &roles, &own, &created, &by, &expires, &used, &revoked}, more...)...); err != nil {
		return err
	}
	k.Roles, k.own, k.Created, k.Expires, k.Used, k.Revoked = Set(roles)&Everybody, Set(own)&Everybody, created.Time, expires.Time, used.Time, revoked.Time
	if by != "" {
		var err error
		if k.By, err = ParseSubject(by); err != nil {
			return err
		}
	}
	return nil
}

// usedEvery is how often the use of a token is written.
const usedEvery = time.Minute

// maxUsed bounds what is remembered of tokens that were used in the last minute.
const maxUsed = 10_000

// Authenticate a token, and tell it with the roles that it has at this moment: no
// more than its maker can. ErrToken, also where none is left; the token is told all
// the same where the secret was right, for the audit log.
func (a *SQL) Authenticate(ctx context.Context, s *Secret) (Token, error) {
	var k Token
	var stored []byte
	err := scanTokenInto(&k, a.db.QueryRowContext(ctx, `SELECT `+tokenColumns+`, digest FROM dm_access_token WHERE instance = $1 AND id = $2`, a.instance, s.ID()), &stored)
	digest := s.digest(a.instance)
	known := err == nil
	switch {
	case errors.Is(err, sql.ErrNoRows):
		// Compared all the same: an ID is public, but whether there is one isn't.
		stored = make([]byte, len(digest))
	case err != nil:
		return Token{}, unavailable(err)
	}
	if subtle.ConstantTimeCompare(stored, digest[:]) != 1 || !known {
		return Token{}, ErrToken
	}
	now := a.moment()
	switch {
	case !k.Revoked.IsZero():
		return k, fmt.Errorf("%w: token %q was revoked", ErrToken, k.Name)
	case !now.Before(k.Expires):
		return k, fmt.Errorf("%w: token %q expired", ErrToken, k.Name)
	}
	given := k.Roles
	if k.Roles, err = a.effective(ctx, k, 0); err != nil {
		return Token{}, err
	}
	if k.Roles == Nobody {
		return k, fmt.Errorf("%w: token %q has the roles %s no more: %s, who made it, lost them", ErrToken, k.Name, given, k.By)
	}
	a.touch(ctx, k, now)
	return k, nil
}

// touch notes that a token was used. That it fails keeps nobody out.
func (a *SQL) touch(ctx context.Context, k Token, now time.Time) {
	a.mu.Lock()
	last, ok := a.used[k.ID]
	if !ok {
		last = k.Used
	}
	if now.Sub(last) < usedEvery {
		a.mu.Unlock()
		return
	}
	if len(a.used) >= maxUsed {
		clear(a.used)
	}
	a.used[k.ID] = now
	a.mu.Unlock()
	_ = a.write(ctx, func(t *database.Tx) error {
		_, err := t.Exec(`UPDATE dm_access_token SET used_us = $1 WHERE instance = $2 AND id = $3 AND (used_us IS NULL OR used_us < $1)`, now.UnixMicro(), a.instance, k.ID)
		return err
	})
}

// RevokeToken by its name. One that was revoked stays so. ErrNotFound.
func (a *SQL) RevokeToken(ctx context.Context, name string) (Token, error) {
	var k Token
	err := a.write(ctx, func(t *database.Tx) error {
		_, err := t.Exec(`UPDATE dm_access_token SET revoked_us = $1 WHERE instance = $2 AND name = $3 AND revoked_us IS NULL`, a.moment().UnixMicro(), a.instance, name)
		if err == nil {
			k = Token{}
			err = scanTokenInto(&k, t.Row(`SELECT `+tokenColumns+` FROM dm_access_token WHERE instance = $1 AND name = $2`, a.instance, name))
		}
		return found(err, "token", name)
	})
	return k, err
}

// Tokens in the order of their names, after one that was seen, with the roles that
// they have at this moment.
func (a *SQL) Tokens(ctx context.Context, after string, limit int) ([]Token, error) {
	var w database.Where
	w.Add("instance = $%d", a.instance)
	w.After("name", after)
	list, err := database.Query(ctx, a.db, scanToken, `SELECT `+tokenColumns+` FROM dm_access_token`+w.Text("name", limit), w.Args...)
	if err != nil {
		return nil, unavailable(err)
	}
	makers := map[Subject]Set{}
	for i := range list {
		k := &list[i]
		if a.over(*k) {
			continue
		}
		maker, ok := makers[k.By]
		if !ok {
			if maker, err = a.standing(ctx, k.By, 0); err != nil {
				return nil, err
			}
			makers[k.By] = maker
		}
		k.May = k.lent(maker)
	}
	return list, nil
}
