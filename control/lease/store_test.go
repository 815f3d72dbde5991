package lease

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// While the file can't be written, devices with a lease still connect, nobody
// gets a new one, and nothing that was refused stays behind.
func TestWriteFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	r := open(t, path, pool24)
	home := mustAcquire(t, r, "known", 1).Address
	if err := r.do(func() { r.store.db.Close() }); err != nil {
		t.Fatal(err)
	}

	for s := SessionID(2); s < 5; s++ {
		_, err := acquire(r, Request{Device: "new", Session: s})
		if !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), path) {
			t.Fatalf("new device: %v", err)
		}
	}
	if g := mustAcquire(t, r, "known", 5); g != (Grant{Address: home, Displaced: 1}) {
		t.Fatalf("known device: %+v", g)
	}
	r.End("known", 5)
	if err := r.Release("known"); !errors.Is(err, ErrStore) {
		t.Fatalf("release: %v", err)
	}
	if l := r.List(); len(l) != 1 || l[0].Device != "known" || l[0].Live {
		t.Fatalf("%+v", l)
	}
	if s := r.Stats(); s.WriteErrors == 0 || s.Live != 0 || s.Displaced != 1 {
		t.Fatalf("%+v", s)
	}

	// The disk is back: the address that was refused is still free.
	err := r.do(func() {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Error(err)
		}
		r.store.db = db
	})
	if err != nil {
		t.Fatal(err)
	}
	if g := mustAcquire(t, r, "new", 6); g.Address != home.Next() {
		t.Fatalf("%+v", g)
	}
	if l := crash(t, r, pool24); len(l) != 2 {
		t.Fatalf("in the file: %+v", l)
	}
}

func TestFileIsPrivateAndLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path, pool24)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if _, err := Open(path, pool24); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
}

// A file that can't be trusted is refused with its name, and not changed.
func TestBadFiles(t *testing.T) {
	good := entry{device: "d"}.append(nil)
	for _, c := range []struct {
		name string
		bad  func(*bbolt.Tx) error
		want error
	}{
		{"another program's", func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return errors.Join(err, tx.DeleteBucket(bucketMeta), tx.DeleteBucket(bucketAddresses))
		}, ErrForeign},
		{"no version", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyVersion) }, ErrForeign},
		{"version 2", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte{0, 0, 0, 2}) }, ErrVersion},
		{"no addresses", func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketAddresses) }, ErrCorrupt},
		{"no time", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyWritten) }, ErrCorrupt},
		{"odd address", put([]byte{10, 0, 0}, good), ErrCorrupt},
		{"mapped address", put(append(make([]byte, 10), 255, 255, 10, 0, 0, 1), good), ErrCorrupt},
		{"short entry", put([]byte{10, 0, 0, 1}, good[:entryHeader-1]), ErrCorrupt},
		{"long entry", put([]byte{10, 0, 0, 1}, make([]byte, entryHeader+maxDevice+1)), ErrCorrupt},
		{"unknown flag", put([]byte{10, 0, 0, 1}, append([]byte{2}, good[1:]...)), ErrCorrupt},
		{"live without device", put([]byte{10, 0, 0, 1}, entry{live: true}.append(nil)), ErrCorrupt},
		{"two addresses", func(tx *bbolt.Tx) error {
			return errors.Join(put([]byte{10, 0, 0, 1}, good)(tx), put([]byte{10, 0, 0, 2}, good)(tx))
		}, ErrCorrupt},
		{"a bucket as address", func(tx *bbolt.Tx) error {
			_, err := tx.Bucket(bucketAddresses).CreateBucket([]byte{10, 0, 0, 1})
			return err
		}, ErrCorrupt},
	} {
		path := filepath.Join(t.TempDir(), "leases.db")
		if err := open(t, path, pool24).Close(); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(c.bad), db.Close()); err != nil {
			t.Fatal(c.name, err)
		}
		refused(t, c.name, path, c.want)
	}
}

func put(k, v []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket(bucketAddresses).Put(k, v) }
}

func refused(t *testing.T, name, path string, want error) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, pool24)
	if want != nil && !errors.Is(err, want) || err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%s: got %v, want %v", name, err, want)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("%s: the file was changed (%v)", name, err)
	}
}

// Bytes that aren't bbolt's, files cut short and pages overwritten lead to an
// error that names the file, never to a panic.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "leases.db")
	r := open(t, path, Config{Pools: prefixes("10.0.0.0/16")})
	for i := range 300 {
		mustAcquire(t, r, fmt.Sprintf("device-%0100d", i), 1)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	refused(t, "text", write("text", []byte(strings.Repeat("not a database\n", 1000))), ErrForeign)
	refused(t, "short text", write("short", []byte("x")), nil)
	refused(t, "cut", write("cut", whole[:3*os.Getpagesize()]), nil)

	// Whole pages of noise: a page that is in use is noticed, others don't matter.
	rnd := rand.New(rand.NewPCG(5, 6))
	found := 0
	for page := 2; page < len(whole)/os.Getpagesize(); page++ {
		b := []byte(string(whole))
		for i := range os.Getpagesize() {
			b[page*os.Getpagesize()+i] = byte(rnd.Uint32())
		}
		r, err := Open(write(fmt.Sprint(page), b), pool24)
		if err == nil {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		found++
		if !strings.Contains(err.Error(), dir) {
			t.Fatalf("page %d: %v", page, err)
		}
	}
	if found < 5 {
		t.Fatalf("only %d overwritten pages were noticed", found)
	}
}

// kill: a process that hands out addresses is killed at a random moment. Each
// answer that it gave is in its file.
func TestKill(t *testing.T) {
	if path := os.Getenv("LEASE_TEST_KILL"); path != "" {
		handOut(path)
		return
	}
	for range 3 {
		path := filepath.Join(t.TempDir(), "leases.db")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LEASE_TEST_KILL="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		answers := make(map[string]string)
		lines := bufio.NewScanner(out)
		for killAt := 50 + rand.IntN(1000); lines.Scan(); {
			if device, address, ok := strings.Cut(lines.Text(), " "); ok && strings.HasPrefix(device, "device-") {
				answers[device] = address
			}
			if len(answers) == killAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		err = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("the process ended by itself: %v", err)
		}
		r := open(t, path, Config{Pools: prefixes("10.0.0.0/8")})
		for _, l := range r.List() {
			if a := answers[l.Device]; a != "" && a != l.Address.String() {
				t.Errorf("%s was answered %s, the file says %v", l.Device, a, l.Address)
			}
			delete(answers, l.Device)
		}
		if len(answers) > 0 {
			t.Fatalf("%d answers are not in the file", len(answers))
		}
	}
}

// handOut runs in the process that is killed; it ends by itself only when nobody
// reads its answers any more.
func handOut(path string) {
	r, err := Open(path, Config{Pools: prefixes("10.0.0.0/8")})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		device := fmt.Sprintf("device-%d", i)
		answer := func(g Grant, err error) {
			if err == nil {
				fmt.Fprintf(os.Stdout, "%s %v\n", device, g.Address)
			}
		}
		if i%10 == 0 {
			g, err := acquire(r, Request{Device: device, Session: 1})
			if err != nil {
				panic(err)
			}
			answer(g, nil)
			continue
		}
		r.Acquire(Request{Device: device, Session: 1}, answer)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, entry{live: true, since: 1, used: 2, device: "d"}.append(nil))
	f.Add(make([]byte, 16), entry{}.append(nil))
	f.Add([]byte{}, []byte{2})
	f.Fuzz(func(t *testing.T, k, v []byte) {
		if address, err := parseKey(k); err == nil {
			if a, ok := netip.AddrFromSlice(k); !ok || address.addr() != a {
				t.Fatalf("%x became %v", k, address.addr())
			}
		}
		if e, err := parseEntry(v); err == nil && string(e.append(nil)) != string(v) {
			t.Fatalf("%x became %+v", v, e)
		}
	})
}
