package lease

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

var pool24 = Config{Pools: prefixes("10.0.0.0/24")}

func open(t *testing.T, path string, cfg Config) *Registry {
	t.Helper()
	r, err := Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// acquire waits for the answer.
func acquire(r *Registry, req Request) (g Grant, err error) {
	answered := make(chan struct{})
	r.Acquire(req, func(got Grant, e error) {
		g, err = got, e
		close(answered)
	})
	<-answered
	return g, err
}

// hold keeps the registry's goroutine busy until release is called.
func hold(r *Registry) (release func()) {
	held, until := make(chan struct{}), make(chan struct{})
	go r.do(func() { close(held); <-until })
	<-held
	return func() { close(until) }
}

func mustAcquire(t *testing.T, r *Registry, device string, s SessionID) Grant {
	t.Helper()
	g, err := acquire(r, Request{Device: device, Session: s})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// lastTransaction on disk, as bbolt counts them. The registry must be idle.
func lastTransaction(t *testing.T, r *Registry) (id int) {
	t.Helper()
	err := r.do(func() {
		if err := r.store.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// crash copies the file as a crash would leave it, and says what is in the copy.
func crash(t *testing.T, r *Registry, cfg Config) []Lease {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crashed.db")
	copyFile := func() error {
		from, err := os.Open(r.path)
		if err != nil {
			return err
		}
		defer from.Close()
		to, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, from)
		return errors.Join(err, to.Close())
	}
	var err error
	if doErr := r.do(func() { err = copyFile() }); err != nil || doErr != nil {
		t.Fatal(err, doErr)
	}
	after, err := Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	return after.List()
}

// Random connects, disconnects, releases, reloads, restarts and crashes: the
// registry does what the model says, and each answer is in the file.
func TestRegistryAgainstModel(t *testing.T) {
	events := 3000
	if testing.Short() {
		events = 500
	}
	path := filepath.Join(t.TempDir(), "leases.db")
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{Rand: rand.New(rand.NewPCG(3, 4))}
		cfg, m := modelPools[0], newModel(modelUsable[0])
		r := open(t, path, cfg)
		for i := range events {
			time.Sleep(time.Duration(1+f.IntN(60_000)) * time.Millisecond) // the save timer strikes too
			now := time.Now().UnixNano()
			switch n := f.IntN(1000); {
			case n < 500:
				req := f.request()
				got, gotErr := acquire(r, req)
				want, wantErr := m.acquire(req, now)
				if got != want || !errors.Is(gotErr, wantErr) {
					t.Fatalf("event %d: %+v: got %+v, %v; want %+v, %v", i, req, got, gotErr, want, wantErr)
				}
			case n < 900:
				d, s := f.session(m)
				r.End(d, s)
				m.end(d, s, now)
			case n < 950:
				d := f.device()
				if got, want := r.Release(d), m.release(d, now); !errors.Is(got, want) {
					t.Fatalf("event %d: release %s: got %v, want %v", i, d, got, want)
				}
			case n < 970:
				next := f.IntN(len(modelPools))
				if err := r.Reconfigure(modelPools[next]); err != nil {
					t.Fatal(err)
				}
				cfg = modelPools[next]
				m.reconfigure(modelUsable[next])
			case n < 985:
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				m.restart(now)
				r = open(t, path, cfg)
			default:
				idle := *m
				idle.live = nil
				if err := idle.check(crash(t, r, cfg)); err != nil {
					t.Fatalf("event %d: after a crash: %v", i, err)
				}
			}
			if err := m.check(r.List()); err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
		}
	})
}

// A device that comes back, and one whose second login replaces the first, get
// the address they had without a transaction.
func TestReconnectWritesNothing(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "leases.db"), pool24)
	first := mustAcquire(t, r, "phone", 1)
	if !first.New || first.Displaced != 0 {
		t.Fatalf("%+v", first)
	}
	before := lastTransaction(t, r)
	r.End("phone", 1)
	if g := mustAcquire(t, r, "phone", 2); g != (Grant{Address: first.Address}) {
		t.Fatalf("reconnect: %+v", g)
	}
	if g := mustAcquire(t, r, "phone", 3); g != (Grant{Address: first.Address, Displaced: 2}) {
		t.Fatalf("second login: %+v", g)
	}
	r.End("phone", 2) // the displaced session's end changes nothing
	if g := mustAcquire(t, r, "phone", 3); g != (Grant{Address: first.Address}) {
		t.Fatalf("same session again: %+v", g)
	}
	if after := lastTransaction(t, r); after != before {
		t.Fatalf("%d transactions", after-before)
	}
	mustAcquire(t, r, "tablet", 4)
	if after := lastTransaction(t, r); after != before+1 {
		t.Fatalf("a new lease took %d transactions", after-before)
	}
}

// When a device was last used gets to the file within SaveInterval, in one
// transaction for many devices.
func TestLastUseIsSavedInBatches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	synctest.Test(t, func(t *testing.T) {
		cfg := pool24
		cfg.SaveInterval = time.Hour
		r := open(t, path, cfg)
		for i := range 10 {
			mustAcquire(t, r, fmt.Sprint(i), SessionID(i+1))
		}
		time.Sleep(30 * time.Minute)
		before := lastTransaction(t, r)
		for i := range 10 {
			time.Sleep(time.Second)
			r.End(fmt.Sprint(i), SessionID(i+1))
		}
		synctest.Wait()
		ended := r.List()[9].LastUsed
		if after := lastTransaction(t, r); after != before {
			t.Fatalf("the ends took %d transactions", after-before)
		}
		time.Sleep(time.Hour)
		if after := lastTransaction(t, r); after != before+1 {
			t.Fatalf("saving took %d transactions", after-before)
		}
		if got := crash(t, r, cfg)[9].LastUsed; !got.Equal(ended) {
			t.Fatalf("the file says %v, want %v", got, ended)
		}
	})
}

// A gateway that crashes knows that a session was live for long: its address
// isn't the one unused longest.
func TestLiveLeaseCountsAsUsedAfterCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	synctest.Test(t, func(t *testing.T) {
		r := open(t, path, pool24)
		mustAcquire(t, r, "long", 1)
		time.Sleep(24 * time.Hour)
		mustAcquire(t, r, "short", 2)
		r.End("short", 2)
		time.Sleep(24 * time.Hour)
		mustAcquire(t, r, "last write", 3)
		last := time.Now()
		leases := crash(t, r, pool24)
		if leases[0].Device != "long" || !leases[0].LastUsed.Equal(last) || !leases[1].LastUsed.Before(last) {
			t.Fatalf("%+v; want the first used at %v, the second before", leases, last)
		}
	})
}

// A session that is live when the gateway stops was used until then.
func TestLiveLeaseCountsAsUsedUntilClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	synctest.Test(t, func(t *testing.T) {
		r := open(t, path, pool24)
		mustAcquire(t, r, "long", 1)
		time.Sleep(24 * time.Hour)
		stopped := time.Now()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r = open(t, path, pool24)
		if l := r.List(); len(l) != 1 || l[0].Live || !l[0].LastUsed.Equal(stopped) {
			t.Fatalf("%+v; want it used at %v", l, stopped)
		}
	})
}

// Many logins of one device at once: the last one wins, every other session is
// displaced exactly once.
func TestConcurrentLoginsOfOneDevice(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "leases.db"), pool24)
	const logins = 200
	displaced := make(map[SessionID]int) // written by the registry's goroutine
	var current SessionID
	var answers sync.WaitGroup
	answers.Add(logins)
	var callers sync.WaitGroup
	for i := range logins {
		callers.Go(func() {
			r.Acquire(Request{Device: "d", Session: SessionID(i + 1)}, func(g Grant, err error) {
				defer answers.Done()
				if err != nil || g.Displaced != current {
					t.Errorf("session %d: displaced %d, want %d (%v)", i+1, g.Displaced, current, err)
				}
				displaced[g.Displaced]++
				current = SessionID(i + 1)
			})
		})
	}
	callers.Wait()
	answers.Wait()
	if l := r.List(); len(l) != 1 || l[0].Session != current {
		t.Fatalf("%+v, want session %d", l, current)
	}
	if displaced[current] != 0 || len(displaced) != logins {
		t.Fatalf("session %d is current; displaced: %v", current, displaced)
	}
}

// Requests that wait together share one transaction.
func TestGroupCommit(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "leases.db"), pool24)
	before := lastTransaction(t, r)
	var answers sync.WaitGroup
	release := hold(r)
	for i := range 100 {
		answers.Add(1)
		r.Acquire(Request{Device: fmt.Sprint(i), Session: 1}, func(_ Grant, err error) {
			defer answers.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	release()
	answers.Wait()
	if after := lastTransaction(t, r); after != before+1 {
		t.Fatalf("%d transactions", after-before)
	}
}

func TestRefusals(t *testing.T) {
	r := open(t, "", Config{Pools: prefixes("10.0.0.0/30")})
	ask := func(req Request, want error) {
		t.Helper()
		if _, err := acquire(r, req); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", req, err, want)
		}
	}
	ask(Request{Session: 1}, ErrInvalid)
	ask(Request{Device: "d"}, ErrInvalid)
	ask(Request{Device: strings.Repeat("d", maxDevice+1), Session: 1}, ErrInvalid)
	ask(Request{Device: "d", Session: 1, Family: 2}, ErrInvalid)
	ask(Request{Device: "d", Session: 1, Family: IPv6}, ErrNoPool)
	ask(Request{Device: "d", Session: 1, Additional: true}, ErrNotCurrent)
	if n := len(r.List()); n != 0 {
		t.Fatalf("%d leases", n)
	}

	// Both addresses are live: nobody is evicted, and an earlier lease isn't lost.
	ask(Request{Device: "a", Session: 1}, nil)
	ask(Request{Device: "b", Session: 2}, nil)
	ask(Request{Device: "c", Session: 3, Want: netip.MustParseAddr("10.0.0.1")}, ErrExhausted)
	if s := r.Stats(); s.Exhausted != 1 || s.Live != 2 || s.Assigned != 2 || s.Capacity != [2]uint64{2, 0} {
		t.Fatalf("%+v", s)
	}
	if err := r.Release("a"); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	if err := r.Release("c"); !errors.Is(err, ErrUnknownDevice) {
		t.Fatal(err)
	}
	// One that is idle makes room.
	r.End("a", 1)
	ask(Request{Device: "c", Session: 4}, nil)
	if s := r.Stats(); s.Reassigned != 1 || s.Live != 2 {
		t.Fatalf("%+v", s)
	}
	if err := r.Release("a"); !errors.Is(err, ErrUnknownDevice) {
		t.Fatal(err)
	}
}

// A full queue answers at once, but the end of a session always gets in.
func TestFullQueue(t *testing.T) {
	cfg := pool24
	cfg.Queue = 3
	r := open(t, "", cfg)
	mustAcquire(t, r, "early", 1)
	release := hold(r)
	var wait sync.WaitGroup
	for i := range 3 {
		wait.Add(1)
		r.Acquire(Request{Device: fmt.Sprint(i), Session: 1}, func(_ Grant, err error) {
			defer wait.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := acquire(r, Request{Device: "late", Session: 1}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	r.End("early", 1)
	if s := r.Stats(); s.Busy != 1 { // Stats doesn't wait
		t.Errorf("%+v", s)
	}
	release()
	wait.Wait()
	if l := r.List(); len(l) != 4 || l[0].Device != "early" || l[0].Live {
		t.Fatalf("%+v", l)
	}
}

func TestClosed(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "leases.db"), pool24)
	var granted Grant
	var waited error
	release := hold(r)
	r.Acquire(Request{Device: "waiting", Session: 1}, func(g Grant, err error) { granted, waited = g, err })
	release()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if waited != nil || !granted.Address.IsValid() {
		t.Fatalf("what waited was answered with %+v, %v", granted, waited)
	}
	if _, err := acquire(r, Request{Device: "d", Session: 1}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	r.End("waiting", 1)
	if err := r.Release("waiting"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := r.Reconfigure(pool24); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if l := r.List(); l != nil {
		t.Error(l)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A pool that goes away and comes back, as after a slip in the configuration,
// costs nobody the address unless they connect in between.
func TestPoolChurn(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "leases.db"), pool24)
	home := make(map[string]netip.Addr)
	for i, d := range []string{"idle", "live", "moves"} {
		home[d] = mustAcquire(t, r, d, SessionID(i+1)).Address
	}
	r.End("idle", 1)
	r.End("moves", 3)
	if err := r.Reconfigure(Config{Pools: prefixes("10.0.0.1/24")}); !errors.Is(err, ErrConfig) {
		t.Fatal(err)
	}
	if err := r.Reconfigure(Config{Pools: prefixes("10.1.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Live != 1 || s.Assigned != 3 || s.Outside != 3 {
		t.Fatalf("%+v", s)
	}
	if g := mustAcquire(t, r, "moves", 4); !g.New || g.Address != netip.MustParseAddr("10.1.0.1") {
		t.Fatalf("%+v", g)
	}
	if err := r.Reconfigure(pool24); err != nil {
		t.Fatal(err)
	}
	for i, d := range []string{"idle", "live"} {
		if g := mustAcquire(t, r, d, SessionID(i+5)); g.Address != home[d] || g.New {
			t.Errorf("%s: %+v, want %v", d, g, home[d])
		}
	}
}

// Whoever was answered finds in Stats what they changed.
func TestStatsAreNotOlderThanAnAnswer(t *testing.T) {
	r := open(t, "", pool24)
	mustAcquire(t, r, "d", 1)
	away := Config{Pools: prefixes("10.1.0.0/24")}
	for i := range 500 {
		for outside, cfg := range []Config{pool24, away} {
			if err := r.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			if s := r.Stats(); s.Outside != outside {
				t.Fatalf("round %d: %d leases outside the pools, want %d", i, s.Outside, outside)
			}
		}
	}
}

// What is forgotten is gone from the file too, and comes back as if it had never
// been assigned.
func TestForgottenIsNotInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	cfg := Config{Pools: prefixes("10.0.0.0/28")}
	r := open(t, path, cfg)
	const most = 2
	if err := r.do(func() { r.table.maxFree = most }); err != nil {
		t.Fatal(err)
	}
	entries := func() (n int) {
		if err := r.do(func() { n = len(r.table.leases) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 10 {
		d := fmt.Sprint("device-", i)
		mustAcquire(t, r, d, SessionID(i+1))
		r.End(d, SessionID(i+1))
	}
	for i := range 10 {
		if err := r.Release(fmt.Sprint("device-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := entries(); n != most {
		t.Errorf("%d addresses are remembered, want %d", n, most)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, path, cfg)
	if n := entries(); n != most {
		t.Errorf("%d addresses are in the file, want %d", n, most)
	}
	if g := mustAcquire(t, r, "next", 1); g.Address != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("the first one is not handed out again: %+v", g)
	}
}
