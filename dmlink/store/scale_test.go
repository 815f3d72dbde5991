package store_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestSoakScale: 1,000,000 devices, or as many as ROAMGATE_SOAK_DM_DEVICES says,
// and ten times as many commands, of which a tenth waits. The planner knows how
// large the tables are, and still reads none of them whole; how long the things
// take that sessions do is told.
func TestSoakScale(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") != "1" {
		t.Skip("a long run: ROAMGATE_SOAK=1")
	}
	devices := 1_000_000
	if text := os.Getenv("ROAMGATE_SOAK_DM_DEVICES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		devices = n
	}
	scale := func(t *testing.T, db *database.DB, numbers string, open func(*testing.T, *databasetest.Recorder) *database.DB) {
		s := storetest.Store(t, db, nil)
		generate(t, db, devices, numbers)
		heard(t, true, open).Check(t, db, 50)
		measure(t, s, devices)
		rollout(t, s, devices)
	}
	t.Run("sqlite", func(t *testing.T) {
		scale(t, databasetest.SQLite(t), "(WITH RECURSIVE n (g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM n WHERE g < %d) SELECT g FROM n) AS n",
			func(t *testing.T, r *databasetest.Recorder) *database.DB { return r.SQLite(t) })
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		scale(t, databasetest.Postgres(t, p), "generate_series(1, %d) AS n (g)", func(t *testing.T, r *databasetest.Recorder) *database.DB { return r.Postgres(t, p) })
	})
}

// generate by statements of the database itself; numbers is where g comes from.
func generate(t *testing.T, db *database.DB, devices int, numbers string) {
	from := func(n int) string { return fmt.Sprintf(numbers, n) }
	commands := 10 * devices
	began := time.Now()
	snapshot, facts := inventoryOf(t, db)
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	indices := withoutIndices(t, db.Engine, one)
	for _, text := range []string{
		`INSERT INTO dm_device (name, user_name, imei, imsi, phone, unit, state, enrolled_us)
			SELECT 'device' || g, 'user' || (g / 2), 'imei' || g, 'imsi' || g, '+' || g, 'corp/site' || (g % ` + strconv.Itoa(sites(devices)) + `), 'open', 1 FROM ` + from(devices),
		`INSERT INTO dm_member (device_name, group_name) SELECT 'device' || g, 'group' || (g % 1000) FROM ` + from(devices),
		`INSERT INTO dm_task (id, kind, detail, created_us, created_by, expires_us, semantics, urgency, command, once, closes)
			SELECT 'task' || g, 'exec', '{}', g, 'alice', 4000000000000000, 2, 0, '{"op":{"verb":"Exec","items":[{"target":"./A"}]}}', 1, 0 FROM ` + from(commands/100+1),
		`INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us)
			SELECT 'task' || (g / 100 + 1), 'device' || (CAST(g AS BIGINT) * 7919 % ` + strconv.Itoa(devices) + ` + 1),
			CASE WHEN g % 10 = 0 THEN 'waiting' ELSE 'answered' END, 0, 4000000000000000 FROM ` + from(commands),
		`INSERT INTO dm_info (device_name, uri, format, type, data, at_us) SELECT 'device' || g, './DevInfo/Mod', 'chr', '', 'X', g FROM ` + from(devices),
		`INSERT INTO dm_alert (device_name, at_us, code, correlator, items) SELECT 'device' || g, g, 1226, '', 'X' FROM ` + from(devices),
		`INSERT INTO dm_answer (command_id, octets) SELECT g, 'X' FROM ` + from(devices),
		`INSERT INTO dm_message (at_us, device_name, sent, proven, content_type, size, octets) SELECT g, 'device' || g, 1, 1, '', 1, 'X' FROM ` + from(devices),
		`INSERT INTO dm_wipe (device_name, task_id, state, enrolled_us, expires_us, due_us) SELECT 'device' || g, 'task' || g, 'closed', 1, g, g FROM ` + from(devices/10),
		`INSERT INTO dm_policy_device (device_name) SELECT 'device' || g FROM ` + from(devices),
		`INSERT INTO dm_policy_state (device_name, state) SELECT 'device' || g, '{"version":0,"serial":0}' FROM ` + from(devices),
		`INSERT INTO dm_inventory_change (device_name, at_us, changes) SELECT 'device' || g, 4000000000000000, 'X' FROM ` + from(devices),
		`INSERT INTO dm_survey (device_name, due_us) SELECT 'device' || g, 4000000000000000 + g FROM ` + from(devices),
		`INSERT INTO dm_outbox (number, at_us, kind, device_name, reason) SELECT g, g, 'closed', 'device' || g, '' FROM ` + from(devices/10),
	} {
		if _, err := one.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
	}
	if _, err := one.ExecContext(t.Context(), `INSERT INTO dm_inventory (device_name, version, snapshot, facts) SELECT 'device' || g, 1, $1, $2 FROM `+from(devices), snapshot, facts); err != nil {
		t.Fatal(err)
	}
	for _, text := range append(indices, `ANALYZE`) {
		if _, err := one.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
	}
	t.Logf("%d devices and %d commands took %v", devices, commands, time.Since(began).Round(time.Second))
}

// withoutIndices and checks of references rows are written in a tenth of the
// time. It returns what makes them again; the connection isn't for anything else.
func withoutIndices(t *testing.T, e database.Engine, one *sql.Conn) (again []string) {
	t.Helper()
	text, settings := `SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name LIKE 'dm_%'`,
		[]string{`PRAGMA foreign_keys = OFF`, `PRAGMA synchronous = OFF`, `PRAGMA cache_size = -500000`}
	if e == database.Postgres {
		text, settings = `SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'dm_%' AND indexname NOT IN (SELECT conname FROM pg_constraint)`,
			[]string{`SET session_replication_role = replica`, `SET maintenance_work_mem = '500MB'`, `SET statement_timeout = 0`}
	}
	rows, err := one.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, definition string
		if err := rows.Scan(&name, &definition); err != nil {
			t.Fatal(err)
		}
		again, settings = append(again, definition), append(settings, `DROP INDEX `+name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, text := range settings {
		if _, err := one.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
	}
	return again
}

// measure what sessions do, with devices drawn by chance.
func measure(t *testing.T, s *store.SQL, devices int) {
	const samples = 500
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 1))
	busy := 0
	operations := []struct {
		name string
		work func(device string) error
	}{
		{"account, which is an empty check-in", func(device string) error {
			a, err := s.Account(ctx, device)
			if !a.Idle {
				busy++
			}
			return err
		}},
		{"next", func(device string) error {
			_, err := s.Next(ctx, device, nil, 64)
			return err
		}},
		{"next, claim and record", func(device string) error {
			tasks, err := s.Next(ctx, device, nil, 64)
			if err != nil || len(tasks) == 0 {
				return err
			}
			var claims []session.Claim
			r := session.Report{At: time.Now()}
			for _, k := range tasks {
				claims = append(claims, session.Claim{Task: k.ID, Attempt: k.Attempt})
				r.Outcomes = append(r.Outcomes, session.Outcome{Task: k.ID, Code: 200})
			}
			if _, err := s.Claim(ctx, device, claims); err != nil {
				return err
			}
			return s.Record(ctx, device, r)
		}},
		{"by phone number", func(device string) error {
			all, err := s.Devices(ctx, store.DeviceFilter{Phone: "+" + device[len("device"):], Open: true})
			if err == nil && (len(all) != 1 || all[0].Name != device) {
				err = fmt.Errorf("%s: %+v", device, all)
			}
			return err
		}},
		{"a device's commands", func(device string) error {
			_, err := s.CommandsOfDevice(ctx, device, 0, 100)
			return err
		}},
		{"expiring nothing", func(string) error {
			_, err := s.Expire(ctx, 100)
			return err
		}},
	}
	for _, o := range operations {
		var times []time.Duration
		for range samples {
			device := fmt.Sprint("device", 1+random.IntN(devices))
			began := time.Now()
			if err := o.work(device); err != nil {
				t.Fatalf("%s: %v", o.name, err)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		t.Logf("%-36s median %v, p99 %v", o.name, times[samples/2].Round(time.Microsecond), times[samples*99/100].Round(time.Microsecond))
	}
	if busy == 0 || busy == samples {
		t.Errorf("%d of %d devices had something to do", busy, samples)
	}
}
