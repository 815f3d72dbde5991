package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// rootRoles has whoever is root on the server's host, without a grant: they could
// change the database.
var rootRoles = SetOf(Server)

// maxMakers bounds how many tokens may have made one another.
const maxMakers = 16

// standing of who makes tokens: the roles that he has at this moment.
func (a *SQL) standing(ctx context.Context, s Subject, makers int) (Set, error) {
	if s.Kind != ByToken {
		return a.RolesOf(ctx, s)
	}
	k, err := a.token(ctx, s.Name)
	if errors.Is(err, ErrNotFound) {
		return Nobody, nil
	}
	if err != nil {
		return Nobody, err
	}
	return a.effective(ctx, k, makers+1)
}

// effective roles of a token: none when it is over, and no more than its maker can
// at this moment. A role that he had himself when he made it goes when his goes;
// one that he gave without having it goes when he can't give roles any more.
func (a *SQL) effective(ctx context.Context, k Token, makers int) (Set, error) {
	if makers > maxMakers || a.over(k) {
		return Nobody, nil
	}
	maker, err := a.standing(ctx, k.By, makers)
	if err != nil {
		return Nobody, err
	}
	return k.lent(maker), nil
}

// over: revoked, or expired.
func (a *SQL) over(k Token) bool { return !k.Revoked.IsZero() || !a.moment().Before(k.Expires) }

// lent are the roles of a token whose maker has some.
func (k Token) lent(maker Set) Set {
	may := k.own & maker
	if maker.Has(Server) {
		may |= Everybody &^ k.own
	}
	return k.Roles & may
}

// mayMake refuses a token that would have more makers than effective follows.
func (a *SQL) mayMake(ctx context.Context, by Subject) error {
	for makers := 0; by.Kind == ByToken; makers++ {
		if makers == maxMakers {
			return fmt.Errorf("%w: %d tokens made one another already; have this one made by an administrator with a certificate", ErrInvalid, maxMakers)
		}
		k, err := a.token(ctx, by.Name)
		if err != nil {
			return err
		}
		by = k.By
	}
	return nil
}

// token by its name. ErrNotFound.
func (a *SQL) token(ctx context.Context, name string) (k Token, err error) {
	err = scanTokenInto(&k, a.db.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM dm_access_token WHERE instance = $1 AND name = $2`, a.instance, name))
	if errors.Is(err, sql.ErrNoRows) {
		return k, fmt.Errorf("token %q: %w", name, ErrNotFound)
	}
	return k, unavailable(err)
}
