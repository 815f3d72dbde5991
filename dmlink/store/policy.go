package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Policies is the store as policies use it. What happens to a device in the other
// methods of SQL marks it in the same transaction: its enrollment, unit, groups,
// user and inventory, and what sessions do with commands of policies.
type Policies struct{ d *SQL }

var _ policy.Store = (*Policies)(nil)

// Policies of the store.
func (d *SQL) Policies() *Policies { return &Policies{d} }

// Document implements policy.Store.
func (p *Policies) Document(ctx context.Context, number int64) (v policy.Version, err error) {
	where := ` WHERE number = $1`
	args := []any{number}
	if number == 0 {
		where, args = ` ORDER BY number DESC LIMIT 1`, nil
	}
	var at database.Instant
	var document string
	err = p.d.db.Prepared().QueryRowContext(ctx, `SELECT number, at_us, by_name, comment, document FROM dm_policy_version`+where, args...).
		Scan(&v.Number, &at, &v.By, &v.Comment, &document)
	switch {
	case errors.Is(err, sql.ErrNoRows) && number == 0:
		return policy.Version{}, nil
	case errors.Is(err, sql.ErrNoRows):
		return policy.Version{}, fmt.Errorf("version %d: %w", number, policy.ErrNoVersion)
	case err != nil:
		return policy.Version{}, unavailable(err)
	}
	v.At = at.Time
	return v, json.Unmarshal([]byte(document), &v.Document)
}

// Newest version's number; 0 if nothing was saved.
func (p *Policies) Newest(ctx context.Context) (number int64, err error) {
	err = p.d.db.Prepared().QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM dm_policy_version`).Scan(&number)
	return number, unavailable(err)
}

// Versions before one, the newest first, without their documents; 0 means from
// the newest.
func (p *Policies) Versions(ctx context.Context, before int64, limit int) ([]policy.Version, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	return query(ctx, p.d.db, func(r database.Row) (v policy.Version, err error) {
		var at database.Instant
		err = r.Scan(&v.Number, &at, &v.By, &v.Comment)
		v.At = at.Time
		return v, err
	}, `SELECT number, at_us, by_name, comment FROM dm_policy_version WHERE number < $1 ORDER BY number DESC LIMIT $2`, before, database.Page(limit))
}

// maxBehind is how many devices Behind counts.
const maxBehind = 1_000_000

// Behind is how many devices are marked, at most 1,000,000, and since when.
func (p *Policies) Behind(ctx context.Context) (devices int, since time.Time, err error) {
	var first database.Instant
	err = p.d.db.Prepared().QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM (SELECT marked_us FROM dm_policy_device
		WHERE marked_us IS NOT NULL ORDER BY marked_us LIMIT $1) AS marked), (SELECT MIN(marked_us) FROM dm_policy_device WHERE marked_us IS NOT NULL)`,
		int64(maxBehind)).Scan(&devices, &first)
	return devices, first.Time, unavailable(err)
}

// Save implements policy.Store.
func (p *Policies) Save(ctx context.Context, v policy.Version, touched []policy.Scope) error {
	m, err := policy.Compile(v.Document)
	if err != nil {
		return err
	}
	r := m.Reading()
	uris := r.URIs
	if r.All {
		uris = append(uris, anyNode)
	}
	document, err := json.Marshal(v.Document)
	if err != nil {
		return err
	}
	return p.d.write(ctx, func(t *tx) error {
		n, err := t.Exec(`INSERT INTO dm_policy_version (number, at_us, by_name, comment, document)
			SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT)
			WHERE (SELECT COALESCE(MAX(number), 0) + 1 FROM dm_policy_version) = $6 ON CONFLICT (number) DO NOTHING`,
			v.Number, v.At.UnixMicro(), v.By, v.Comment, string(document), v.Number)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("version %d: %w", v.Number, policy.ErrChanged)
		}
		if _, err := t.Exec(`DELETE FROM dm_policy_read`); err != nil {
			return err
		}
		if len(uris) > 0 {
			from, args := t.Rows(1, database.Texts("uri", uris))
			if _, err := t.Exec(`INSERT INTO dm_policy_read (uri) SELECT v.uri FROM `+from, args...); err != nil {
				return err
			}
		}
		return t.markScopes(touched)
	})
}

// anyNode among the nodes that filters read.
const anyNode = "*"

// markScopes in the order of names on PostgreSQL, so that it doesn't wait in a
// circle with who puts many states.
func (t *tx) markScopes(touched []policy.Scope) error {
	if len(touched) == 0 {
		return nil
	}
	args := []any{t.d.now().UnixMicro()}
	where := inScopes(t.Engine, touched, &args)
	text := `UPDATE dm_policy_device SET mark = mark + 1, marked_us = COALESCE(marked_us, $1)` + where
	if t.Engine == database.Postgres && where != "" {
		text = `WITH locked AS (SELECT device_name FROM dm_policy_device` + where + ` ORDER BY device_name FOR UPDATE)
			UPDATE dm_policy_device SET mark = mark + 1, marked_us = COALESCE(marked_us, $1) WHERE device_name IN (SELECT device_name FROM locked)`
	}
	_, err := t.Exec(text, args...)
	return err
}

// inScopes is a WHERE of dm_policy_device; empty for all devices. It appends its
// parameters.
func inScopes(e database.Engine, scopes []policy.Scope, args *[]any) string {
	if slices.ContainsFunc(scopes, func(s policy.Scope) bool { return s.Unit == "" && len(s.Groups) == 0 }) {
		return ""
	}
	next := func(v any) int {
		*args = append(*args, v)
		return len(*args)
	}
	var parts []string
	for _, s := range scopes {
		if len(s.Groups) == 0 {
			// Below corp is what begins with corp/, and 0 comes after the slash.
			parts = append(parts,
				fmt.Sprintf(`SELECT name FROM dm_device WHERE unit = $%d`, next(s.Unit)),
				fmt.Sprintf(`SELECT name FROM dm_device WHERE unit >= $%d AND unit < $%d`, next(s.Unit+"/"), next(s.Unit+"0")))
			continue
		}
		text := `SELECT device_name FROM dm_member`
		groups := e.Among("group_name", "TEXT", next(database.Several(e, s.Groups)))
		if s.Unit == "" {
			parts = append(parts, text+` WHERE `+groups)
			continue
		}
		parts = append(parts, text+fmt.Sprintf(` JOIN dm_device ON name = device_name WHERE %s AND (unit = $%d OR unit >= $%d AND unit < $%d)`,
			groups, next(s.Unit), next(s.Unit+"/"), next(s.Unit+"0")))
	}
	return ` WHERE device_name IN (` + strings.Join(parts, ` UNION `) + `)`
}

// pageOfFacts is how many devices are read at once.
const pageOfFacts = 500

// Devices implements policy.Store. Names are read first, all of them: a page of
// what lies in several scopes isn't cheaper.
func (p *Policies) Devices(ctx context.Context, scopes []policy.Scope, r policy.Reading, each func([]policy.Facts) error) error {
	if len(scopes) == 0 {
		return nil
	}
	var args []any
	where := inScopes(p.d.db.Engine, scopes, &args)
	names, err := query(ctx, p.d.db, database.Scan[string], `SELECT device_name FROM dm_policy_device`+where+` ORDER BY device_name`, args...)
	if err != nil {
		return err
	}
	for page := range slices.Chunk(names, pageOfFacts) {
		all := make([]policy.Facts, len(page))
		err := p.d.db.Read(ctx, func(read *database.Tx) error {
			facts, err := (&tx{read, p.d}).facts(page, r)
			for i, name := range page {
				all[i] = *facts[name]
			}
			return err
		})
		if err != nil {
			return unavailable(err)
		}
		if err := each(all); err != nil {
			return err
		}
	}
	return nil
}

// Mark implements policy.Store.
func (p *Policies) Mark(ctx context.Context, devices ...string) error {
	return p.d.write(ctx, func(t *tx) error { return t.mark(devices...) })
}

// mark devices: what they shall have has to be computed.
func (t *tx) mark(devices ...string) error {
	if len(devices) == 0 {
		return nil
	}
	_, err := t.Exec(`UPDATE dm_policy_device SET mark = mark + 1, marked_us = COALESCE(marked_us, $1) WHERE `+t.Among("device_name", "TEXT", 2),
		t.d.now().UnixMicro(), database.Several(t.Engine, slices.Sorted(slices.Values(devices))))
	return err
}

// bump lets a Put fail that doesn't know what happened.
func (t *tx) bump(device string) error {
	_, err := t.Exec(`UPDATE dm_policy_device SET mark = mark + 1 WHERE device_name = $1`, device)
	return err
}

// standing takes away what the server wants of a device by itself, and with it
// what is known about policies; a device that is open begins anew.
func (t *tx) standing(device string, open bool) error {
	for _, text := range []string{
		`DELETE FROM dm_answer WHERE command_id IN (SELECT id FROM dm_command WHERE device_name = $1 AND serial IS NOT NULL)`,
		`DELETE FROM dm_command WHERE device_name = $1 AND serial IS NOT NULL`,
		`DELETE FROM dm_policy_state WHERE device_name = $1`,
		`DELETE FROM dm_survey WHERE device_name = $1`,
	} {
		if _, err := t.Exec(text, device); err != nil {
			return err
		}
	}
	if !open {
		_, err := t.Exec(`DELETE FROM dm_policy_device WHERE device_name = $1`, device)
		return err
	}
	now := t.d.now().UnixMicro()
	if _, err := t.Exec(`INSERT INTO dm_survey (device_name, due_us) VALUES ($1, $2)`, device, now); err != nil {
		return err
	}
	_, err := t.Exec(`INSERT INTO dm_policy_device (device_name, mark, marked_us) VALUES ($1, 1, $2)
		ON CONFLICT (device_name) DO UPDATE SET mark = dm_policy_device.mark + 1, marked_us = excluded.marked_us, due_us = NULL, doubt = 0`, device, now)
	return err
}

// standingTask is the content of commands that the server makes by itself, under
// a name that says what it is, so that all devices share it.
func (t *tx) standingTask(kind, detail string, command []byte, at time.Time) (id string, err error) {
	id = standingID(kind, command)
	_, err = t.Exec(`INSERT INTO dm_task (id, kind, detail, created_us, created_by, expires_us, semantics, urgency, command, once, closes, listed)
		VALUES ($1, $2, $3, $4, 'manager', $5, 0, 0, $6, 0, 0, 0) ON CONFLICT (id) DO NOTHING`, id, kind, detail, at.UnixMicro(), int64(never), command)
	return id, err
}

// addStanding commands, all columns being equally long.
func (t *tx) addStanding(tasks, devices []string, serials, places []int64) error {
	if len(tasks) == 0 {
		return nil
	}
	v, args := t.Rows(2, database.Texts("task", tasks), database.Texts("device", devices), database.Numbers("serial", serials), database.Numbers("place", places))
	_, err := t.Exec(`INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us, serial)
		SELECT v.task, v.device, 'waiting', v.place, CAST($1 AS BIGINT), v.serial FROM `+v, append([]any{int64(never)}, args...)...)
	return err
}

func standingID(kind string, command []byte) string {
	sum := sha256.Sum256(command)
	return kind + "/" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// never is when standing commands expire.
const never = 1 << 62

// Kinds of standing tasks.
const (
	policyKind    = "policy"
	inventoryKind = "inventory"
)

// reserved IDs are those of standing tasks: who could choose one could choose
// what policies send.
func reserved(id string) bool {
	return strings.HasPrefix(id, policyKind+"/") || strings.HasPrefix(id, inventoryKind+"/")
}
