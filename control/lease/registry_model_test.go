package lease

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// crash copies the files as a crash would leave them, and says what is in the
// copy.
func crash(t *testing.T, r *Registry, cfg Config) []Lease {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crashed.db")
	var err error
	doErr := r.do(func() {
		_ = r.store.settle() // bbolt's pages can't be copied while it writes them
		err = errors.Join(copyFile(r.path, path), copyFile(journalPath(r.path), journalPath(path)))
	})
	if err != nil || doErr != nil {
		t.Fatal(err, doErr)
	}
	after, err := Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	return after.List()
}

// copyFile does nothing if there is none.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.WriteFile(to, b, 0o600))
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
		full, refused := false, 0
		for i := range events {
			time.Sleep(time.Duration(1+f.IntN(60_000)) * time.Millisecond) // the save timer strikes too
			now := time.Now().UnixNano()
			switch n := f.IntN(1000); {
			case n < 500:
				req := f.request()
				got, gotErr := acquire(r, req)
				if full && errors.Is(gotErr, ErrStore) {
					if g, err := m.clone().acquire(req, now); err != nil || !g.New {
						t.Fatalf("event %d: %+v: refused, though %+v, %v needs no write", i, req, g, err)
					}
					refused++
					break
				}
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
				got := r.Release(d)
				if full && errors.Is(got, ErrStore) && m.clone().release(d, now) == nil {
					refused++
					break
				}
				if want := m.release(d, now); !errors.Is(got, want) {
					t.Fatalf("event %d: release %s: got %v, want %v", i, d, got, want)
				}
			case n < 970:
				next := f.IntN(len(modelPools))
				if err := r.Reconfigure(modelPools[next]); err != nil {
					t.Fatal(err)
				}
				cfg = modelPools[next]
				m.reconfigure(modelUsable[next])
			case n < 978:
				full = !full
				fillDisk(t, r, full)
			case n < 985 && !full:
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
		if refused == 0 {
			t.Fatal("the full disk refused nothing")
		}
		fillDisk(t, r, false)
	})
}

// fillDisk makes writes fail, or takes it back.
func fillDisk(t *testing.T, r *Registry, full bool) {
	t.Helper()
	err := r.do(func() {
		s := r.store
		_ = s.settle()
		s.put = putChanges
		if full {
			s.put = func(*bbolt.DB, map[key]change, position) error { return syscall.ENOSPC }
		}
		if s.journal == nil {
			return
		}
		if f, was := s.journal.disk.(fullDisk); was {
			s.journal.disk = f.disk
		}
		if full {
			s.journal.disk = fullDisk{s.journal.disk}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
