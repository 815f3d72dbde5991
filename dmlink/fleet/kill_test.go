package fleet_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestMain is a manager, too, that a test kills.
func TestMain(m *testing.M) {
	if os.Getenv("ROAMGATE_TEST_MANAGER") == "" {
		os.Exit(m.Run())
	}
	if err := manage(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// manage takes over what enrollment has done, and says so.
func manage(ctx context.Context) error {
	engine, driver := database.SQLite, os.Getenv("ROAMGATE_TEST_DRIVER")
	if driver == databasetest.Driver(database.Postgres) {
		engine = database.Postgres
	}
	db, err := sql.Open(driver, os.Getenv("ROAMGATE_TEST_MANAGER"))
	if err != nil {
		return err
	}
	defer db.Close()
	f, err := fleet.New(ctx, database.New(db, engine), withoutGateways(slowly{enrollment()}))
	if err != nil {
		return err
	}
	fmt.Println("begins")
	err = f.Follow(ctx)
	fmt.Println("ends")
	return err
}

func withoutGateways(feed fleet.Feed) fleet.Options {
	oid, err := x509.ParseOID("1.2.3.4")
	if err != nil {
		panic(err)
	}
	none := errors.New("no gateways")
	return fleet.Options{
		Identity: push.Identity{Roots: x509.NewCertPool(), Agent: oid, Certificate: func() (*tls.Certificate, error) { return nil, none }},
		Sign:     func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) { return nil, none },
		SealKey:  make([]byte, 32), Feed: feed,
	}
}

// slowly makes many transactions of it.
type slowly struct{ fleet.Feed }

func (s slowly) Entries(ctx context.Context, after int64, _ int) ([]fleet.Entry, error) {
	return s.Feed.Entries(ctx, after, 10)
}

// enrollments of the test; every seventh device closes the one three before it.
const enrollments = 1500

func enrollment() *outbox {
	o := &outbox{}
	for n := range enrollments {
		o.tell(enrolled(n, "staff"))
		if n%7 == 6 {
			o.tell(revoked(n-3), closed(n-3))
		}
	}
	return o
}

// TestKilled: a manager is killed again and again while it takes over enrollments.
// Nothing is lost, nothing counts twice, and no address is given twice.
func TestKilled(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		killed(t, database.SQLite, database.SQLiteName(t.TempDir()+"/manager.db"), func() {})
	})
	t.Run("postgres", func(t *testing.T) {
		p := postgres.Start(t)
		name := p.Create(t)
		killed(t, database.Postgres, p.Name(name), func() { p.Settle(t, name) })
	})
}

// killed managers; settle returns when nothing comes of what they did any more.
func killed(t *testing.T, engine database.Engine, name string, settle func()) {
	connect := func() *sql.DB {
		db, err := sql.Open(databasetest.Driver(engine), name)
		must(t, err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	db := connect()
	f, err := fleet.New(t.Context(), database.New(db, engine), withoutGateways(nil))
	must(t, err)
	must(t, f.SetContent(t.Context(), pools("10.64.0.0/16", "2001:db8::/64")))
	must(t, db.Close())
	kills := 0
	for done := false; !done; {
		// The longer it takes, the longer it is left alone: it ends on any machine.
		done = oneLife(t, engine, name, time.Duration(rand.IntN(40*(kills+1)))*time.Millisecond)
		kills++
	}
	t.Logf("killed %d times", kills-1)
	settle()

	all := enrollment().entries
	open := map[string]bool{}
	revocations := 0
	for _, e := range all {
		switch e.Kind {
		case fleet.Enrolled:
			open[e.Device] = true
		case fleet.Closed:
			delete(open, e.Device)
		case fleet.Revoked:
			revocations++
		case fleet.Renewed:
		}
	}
	f, err = fleet.New(t.Context(), database.New(connect(), engine), withoutGateways(nil))
	must(t, err)
	if at, err := f.Cursor(t.Context()); err != nil || at != int64(len(all)) {
		t.Errorf("%d of %d are taken: %v", at, len(all), err)
	}
	if got := f.Documents().Len(gcm.Devices); got != len(open)+revocations {
		t.Errorf("%d records, want %d and %d", got, len(open), revocations)
	}
	has := map[netip.Addr]string{}
	for device := range open {
		d, err := f.Device(t.Context(), device)
		must(t, err)
		for _, a := range d.Addresses {
			if has[a] != "" {
				t.Errorf("%v is %s's and %s's", a, has[a], device)
			}
			has[a] = device
		}
	}
	if len(has) != 2*len(open) {
		t.Errorf("%d addresses of %d devices", len(has), len(open))
	}
}

// oneLife of a manager: it is killed so long after it began, unless it has done all.
func oneLife(t *testing.T, engine database.Engine, name string, after time.Duration) (done bool) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.Command(self)
	c.Env = append(os.Environ(), "ROAMGATE_TEST_MANAGER="+name, "ROAMGATE_TEST_DRIVER="+databasetest.Driver(engine))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begins" {
		t.Fatalf("it doesn't begin: %q, %v", lines.Text(), c.Wait())
	}
	timer := time.AfterFunc(after, func() { _ = c.Process.Kill() })
	done = lines.Scan() && lines.Text() == "ends"
	timer.Stop()
	_ = c.Wait() // killed, or not
	return done
}
