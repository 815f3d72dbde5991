package enroll_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/directory/directorytest"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// databases of tests that run on both.
func databases(t *testing.T, run func(*testing.T, *directory.SQL)) {
	t.Run("sqlite", func(t *testing.T) { run(t, directorytest.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { run(t, directorytest.StartPostgres(t).Directory(t)) })
}

// TestOnePasswordManyAtOnce: 200 who know one password get one certificate
// among them. Half have the same key, as a device that asks again and again.
func TestOnePasswordManyAtOnce(t *testing.T) {
	databases(t, func(t *testing.T, d *directory.SQL) {
		w := newWorld(t, d, enroll.Policy{SourceBurst: 1000})
		code, impatient := w.request("phone-1"), catest.NewKey(t)
		const n = 200
		type outcome struct {
			enroll.Issued
			err error
		}
		keys, outcomes := make([]*ecdsa.PrivateKey, n), make([]outcome, n)
		for i := range keys {
			if keys[i] = impatient; i%2 == 1 {
				keys[i] = catest.NewKey(t)
			}
		}
		var wg sync.WaitGroup
		for i, key := range keys {
			wg.Go(func() {
				issued, err := w.Enroll(t.Context(), byPassword(code, key.Public()))
				outcomes[i] = outcome{issued, err}
			})
		}
		wg.Wait()
		var first *x509.Certificate
		fresh := 0
		for i, o := range outcomes {
			if o.err != nil {
				wantRefusal(t, o.err, enroll.Used)
				continue
			}
			if first == nil {
				first = o.Certificate
			}
			if !o.Certificate.Equal(first) || !keys[i].PublicKey.Equal(o.Certificate.PublicKey) {
				t.Errorf("%d got another certificate", i)
			}
			if !o.Again {
				fresh++
			}
		}
		all, err := d.Certificates(t.Context(), directory.CertificateFilter{})
		if err != nil || len(all) != 1 || fresh != 1 {
			t.Errorf("%d certificates recorded, %d issued, %v", len(all), fresh, err)
		}
	})
}

// stormVariable turns the test binary into a server in a storm: it holds the
// folder of the storm.
const stormVariable = "ROAMGATE_TEST_STORM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(stormVariable); dir != "" {
		if err := serveStorm(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// storm is what server and test share: a folder with a CA, and a file of
// devices, a password and a private key each.
type storm struct {
	dir    string
	codes  []otp.Code
	keys   []crypto.Signer
	engine database.Engine
	source string
}

func (s *storm) write(t *testing.T) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintln(&b, s.engine, s.source)
	for i := range s.codes {
		der, err := x509.MarshalPKCS8PrivateKey(s.keys[i])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, s.codes[i].Reveal(), hex.EncodeToString(der))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "storm"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readStorm(dir string) (*storm, error) {
	f, err := os.Open(filepath.Join(dir, "storm"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &storm{dir: dir}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		first, second, _ := strings.Cut(lines.Text(), " ")
		if s.engine == "" {
			s.engine, s.source = database.Engine(first), second
			continue
		}
		code, err := otp.ParseCode(first)
		if err != nil {
			return nil, err
		}
		der, err := hex.DecodeString(second)
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, err
		}
		s.codes, s.keys = append(s.codes, code), append(s.keys, key.(crypto.Signer))
	}
	return s, lines.Err()
}

func (s *storm) open(ctx context.Context) (*enroll.Service, func(), error) {
	a, err := ca.Open(filepath.Join(s.dir, "pki"), nil)
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open(databasetest.Driver(s.engine), s.source)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(20)
	d, err := directory.New(ctx, database.New(db, s.engine))
	if err != nil {
		return nil, nil, err
	}
	service, err := enroll.New(ctx, enroll.Options{Directory: d, Issuer: a.Issuer(), SealKey: sealer})
	return service, func() { db.Close(); a.Close() }, err
}

// each device in any order, eight at a time.
func (s *storm) each(do func(i int) error) error {
	var wg sync.WaitGroup
	next := make(chan int)
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for _, i := range rand.Perm(len(s.codes)) {
		select {
		case next <- i:
		case err := <-errs:
			return err
		}
	}
	close(next)
	wg.Wait()
	close(errs)
	return <-errs
}

// serveStorm enrolls all devices, revokes every tenth and publishes lists, and
// tells what it did after it did it.
func serveStorm(dir string) error {
	ctx := context.Background()
	s, err := readStorm(dir)
	if err != nil {
		return err
	}
	service, end, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	return s.each(func(i int) error {
		issued, err := service.Enroll(ctx, byPassword(s.codes[i], s.keys[i].Public()))
		if errors.Is(err, enroll.ErrRefused) && i%10 == 0 {
			return nil // revoked in an earlier life: not given out again
		}
		if err != nil {
			return err
		}
		fmt.Println("issued", i, ca.SerialString(issued.Certificate.SerialNumber))
		if i%10 != 0 {
			return nil
		}
		if err := service.Revoke(ctx, admin, issued.Certificate.SerialNumber, ca.KeyCompromise); err != nil && !errors.Is(err, directory.ErrRevoked) {
			return err
		}
		if _, err := service.Trust(ctx); err != nil {
			return err
		}
		fmt.Println("revoked", i, ca.SerialString(issued.Certificate.SerialNumber))
		return nil
	})
}

// newStorm makes n requests, each with its device.
func newStorm(t *testing.T, n int, engine database.Engine, source string) *storm {
	t.Helper()
	s := &storm{dir: t.TempDir(), engine: engine, source: source}
	a, err := ca.Create(noon, ca.Options{Dir: filepath.Join(s.dir, "pki")})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	service, end, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	s.codes, s.keys = make([]otp.Code, n), make([]crypto.Signer, n)
	err = s.each(func(i int) error {
		s.keys[i] = catest.NewKey(t)
		var err error
		_, s.codes[i], err = service.CreateRequest(t.Context(), admin, enroll.NewRequest{User: fmt.Sprintf("user%d", i), Device: deviceOf(i)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t)
	return s
}

func deviceOf(i int) string { return fmt.Sprintf("phone-%d", i) }

// TestKilledInAStorm: kill -9 of the server again and again while devices
// enroll. At any time each password is unused or has exactly one certificate,
// and what a device was told is so.
func TestKilledInAStorm(t *testing.T) {
	const devices, kills = 2000, 6
	run := func(t *testing.T, s *storm, settle func()) {
		told := make(map[string]string)
		partly := 0
		for round := range kills {
			serveAndKill(t, s, told, 40+round*devices/(2*kills))
			settle()
			service, end, err := s.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if used := s.check(t, service, told); used > 0 && used < devices {
				partly++
			}
			end()
		}
		if partly < 3 {
			t.Errorf("killed %d times in the middle: the killer comes too late", partly)
		}
		// Nobody kills the last one.
		serveAndKill(t, s, told, -1)
		service, end, err := s.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		if used := s.check(t, service, told); used != devices {
			t.Errorf("%d of %d used at the end", used, devices)
		}
	}
	t.Run("sqlite", func(t *testing.T) {
		source := database.SQLiteName(filepath.Join(t.TempDir(), "directory.db"))
		run(t, newStorm(t, devices, database.SQLite, source), func() {})
	})
	t.Run("postgres", func(t *testing.T) {
		p := directorytest.StartPostgres(t)
		name := p.Create(t)
		run(t, newStorm(t, devices, database.Postgres, p.Name(name)), func() { p.Settle(t, name) })
	})
}

// serveAndKill strikes after n lines, anywhere in the work of eight at once; -1
// lets the server finish. told is what devices heard, by kind and number.
func serveAndKill(t *testing.T, s *storm, told map[string]string, n int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), stormVariable+"="+s.dir)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// A server that can't write stops: it is at most some hundred lines ahead
	// of whoever reads.
	if _, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	c.Stdout = in
	err = c.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for heard := 0; lines.Scan(); heard++ {
		if heard == n {
			c.Process.Kill()
		}
		what, serial, ok := cutLast(lines.Text())
		if !ok || len(serial) != 32 {
			continue // killed in the middle of a line
		}
		if before, ok := told[what]; ok && before != serial {
			t.Errorf("%s: %s, and before %s", what, serial, before)
		}
		told[what] = serial
	}
	err = c.Wait()
	if stderr.Len() > 0 || n < 0 && err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// TestPostgresRestartsInAStorm: the database goes away and comes back. Devices
// are told that it can't be decided now, try again, and all is consistent.
func TestPostgresRestartsInAStorm(t *testing.T) {
	p := directorytest.StartPostgres(t)
	s := newStorm(t, 400, database.Postgres, p.Name(p.Create(t)))
	service, end, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	told := make(map[string]string)
	var mu sync.Mutex
	unavailable := 0
	finished := make(chan error, 1)
	progress := make(chan struct{}, len(s.codes))
	go func() {
		finished <- s.each(func(i int) error {
			for {
				issued, err := service.Enroll(t.Context(), byPassword(s.codes[i], s.keys[i].Public()))
				mu.Lock()
				switch {
				case err == nil:
					told[fmt.Sprint("issued ", i)] = ca.SerialString(issued.Certificate.SerialNumber)
				case errors.Is(err, directory.ErrUnavailable):
					unavailable++
				}
				mu.Unlock()
				switch {
				case err == nil:
					progress <- struct{}{}
					return nil
				case !errors.Is(err, directory.ErrUnavailable):
					return fmt.Errorf("device %d: %w", i, err)
				}
				time.Sleep(10 * time.Millisecond) // as a device would, only sooner
			}
		})
	}()
	for range 3 {
		for range 60 {
			select {
			case <-progress:
			case err := <-finished:
				t.Fatal(err)
			}
		}
		p.Kill()
		p.Start()
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	if unavailable == 0 {
		t.Error("nobody noticed that the database was away")
	}
	if used := s.check(t, service, told); used != len(s.codes) || len(told) != len(s.codes) {
		t.Errorf("%d used, %d told, want %d", used, len(told), len(s.codes))
	}
	t.Logf("%d tries while the database was away", unavailable)
}
