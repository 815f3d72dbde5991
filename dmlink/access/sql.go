package access

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

//go:embed migrations
var migrations embed.FS

// Tables of roles, tokens and the audit log.
var Tables = database.Tables{Version: "dm_access_version", Files: migrations}

// KeySize of Options.Key in octets.
const KeySize = 32

// Options of New.
type Options struct {
	// Instance that roles, tokens and the log are of: other instances in the same
	// database don't see them.
	Instance string
	// Key of the audit log's chain, KeySize octets that are not in the database.
	Key []byte
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// SQL keeps roles, tokens and the audit log of one instance. It is safe for
// concurrent use; several servers may share a database.
type SQL struct {
	db       *database.DB
	instance string
	key      []byte
	now      func() time.Time

	// used is when the use of a token was written last, by ID, so that each use
	// isn't a write.
	mu   sync.Mutex
	used map[string]time.Time
}

// New brings the tables up to date. The database stays the caller's.
func New(ctx context.Context, db *database.DB, o Options) (*SQL, error) {
	switch {
	case !IsName(o.Instance):
		return nil, fmt.Errorf("%w: instance %.100q", ErrInvalid, o.Instance)
	case len(o.Key) != KeySize:
		return nil, fmt.Errorf("%w: a key of %d octets, want %d", ErrInvalid, len(o.Key), KeySize)
	}
	if err := Tables.Migrate(ctx, db); err != nil {
		return nil, unavailable(err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &SQL{db: db, instance: o.Instance, key: slices.Clone(o.Key), now: o.Now, used: map[string]time.Time{}}, nil
}

// Instance that it is of.
func (a *SQL) Instance() string { return a.instance }

// moment as the database keeps it.
func (a *SQL) moment() time.Time { return a.now().UTC().Truncate(time.Microsecond) }

// decided are the errors that say something about what was asked.
var decided = []error{ErrNotFound, ErrExists, ErrInvalid, ErrToken, ErrBroken}

// unavailable wraps what a database says.
func unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || slices.ContainsFunc(decided, func(d error) bool { return errors.Is(err, d) }) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (a *SQL) write(ctx context.Context, work func(*database.Tx) error) error {
	return unavailable(a.db.Write(ctx, work))
}

func found(err error, what, name string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s %q: %w", what, name, ErrNotFound)
	}
	return err
}
