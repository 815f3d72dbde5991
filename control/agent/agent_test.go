package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestLastGoodDocuments: a snapshot and deltas to it are put into force, and
// those that were there last, as a whole, after a restart.
func TestLastGoodDocuments(t *testing.T) {
	g, id, file := new(gateway), install(t).identity(t), filepath.Join(t.TempDir(), "agent.db")
	a := open(t, g.config(file, id))
	if got := g.take(); len(got) != 0 {
		t.Errorf("something was put into force before anything came: %q", got)
	}
	devices := newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1), device(2))
	if s, err := a.Replace(devices.Clone()); err != nil || s.Records != 2 || !s.Applied {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := a.Patch(commit(t, devices, gcm.Version{Epoch: 1, Number: 3}, device(3))); err != nil || s.Hash != devices.Hash() {
		t.Fatalf("%+v, %v", s, err)
	}
	access := newSet(t, gcm.Access, gcm.Version{Epoch: 1, Number: 2})
	// Nothing but a delta, from nothing.
	if s, err := a.Patch(commit(t, access, gcm.Version{Epoch: 1, Number: 4}, group("staff"))); err != nil || s.Version != access.Version() {
		t.Fatalf("%+v, %v", s, err)
	}
	if got, want := g.take(), []string{"devices 1.1 whole 2", "devices 1.3 delta 3", "access 1.4 delta 1"}; !slices.Equal(got, want) {
		t.Errorf("put into force: %q, want %q", got, want)
	}
	before := a.State()
	if before.Gateway != "gateway-1" || before.Sessions != 7 || len(before.Sections) != len(gcm.Sections) {
		t.Errorf("state %+v", before)
	}
	if _, err := New(g.config(file, id)); !errors.Is(err, ErrLocked) {
		t.Errorf("a second agent: %v, want %v", err, ErrLocked)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	a = open(t, g.config(file, id))
	defer a.Close()
	if got, want := g.take(), []string{"devices 1.3 whole 3", "access 1.4 whole 1"}; !slices.Equal(got, want) {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
	for section, want := range before.Sections {
		got := a.State().Sections[section]
		if got.Version != want.Version || got.Hash != want.Hash || got.Records != want.Records || !got.Applied {
			t.Errorf("%s after a restart: %+v, want %+v", section, got, want)
		}
	}
}

// TestEveryReason: content that can't be put into force isn't stored, and all
// that is wrong with it is told.
func TestEveryReason(t *testing.T) {
	g, id, file := new(gateway), install(t).identity(t), filepath.Join(t.TempDir(), "agent.db")
	a := open(t, g.config(file, id))
	defer a.Close()
	access := newSet(t, gcm.Access, gcm.Version{Epoch: 1, Number: 1}, group("staff"))
	if _, err := a.Replace(access.Clone()); err != nil {
		t.Fatal(err)
	}
	g.take()
	g.set(func(s *gcm.Set) []error { return []error{errTest, errors.New("and another")} }, nil)
	before := a.State().Sections[gcm.Access]
	bad := commit(t, access.Clone(), gcm.Version{Epoch: 1, Number: 2}, group("bad"))
	for name, refused := range map[string]func() (gcm.SectionState, error){
		"delta":    func() (gcm.SectionState, error) { return a.Patch(bad) },
		"snapshot": func() (gcm.SectionState, error) { return a.Replace(newSet(t, gcm.Access, bad.Version, group("bad"))) },
	} {
		state, err := refused()
		r := new(Refused)
		if !errors.Is(err, gcm.ErrRefused) || !errors.As(err, &r) || len(r.Reasons) != 2 {
			t.Errorf("%s: %v", name, err)
		}
		if state.Version != before.Version || state.Hash != before.Hash {
			t.Errorf("%s: %+v, want %+v", name, state, before)
		}
	}
	if got := g.take(); len(got) != 0 {
		t.Errorf("put into force: %q", got)
	}
	g.set(nil, nil)
	if s, err := a.Patch(bad); err != nil || s.Version != bad.Version {
		t.Errorf("after a refusal nothing else is taken: %v", err)
	}
}

// TestNotApplied: what is stored and couldn't be put into force is told, and
// tried as a whole with the next delta.
func TestNotApplied(t *testing.T) {
	g, id, file := new(gateway), install(t).identity(t), filepath.Join(t.TempDir(), "agent.db")
	a := open(t, g.config(file, id))
	defer a.Close()
	devices := newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1))
	g.set(nil, func(Change) []error { return []error{errTest} })
	if s, err := a.Replace(devices.Clone()); err != nil || s.Applied || len(s.Reasons) != 1 || s.Reasons[0] != errTest.Error() {
		t.Errorf("%+v, %v", s, err)
	}
	if s := a.State().Sections[gcm.Devices]; s.Applied || len(s.Reasons) != 1 {
		t.Errorf("state %+v", s)
	}
	g.take()
	g.set(nil, nil)
	if s, err := a.Patch(commit(t, devices, gcm.Version{Epoch: 1, Number: 2}, device(2))); err != nil || !s.Applied || len(s.Reasons) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if got, want := g.take(), []string{"devices 1.2 whole 2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRevocationsDontWait: while one section is being put into force, others
// are taken.
func TestRevocationsDontWait(t *testing.T) {
	g, id, file := new(gateway), install(t).identity(t), filepath.Join(t.TempDir(), "agent.db")
	a := open(t, g.config(file, id))
	defer a.Close()
	inside, release := make(chan bool), make(chan bool)
	g.set(nil, func(c Change) []error {
		if c.Set.Section() == gcm.Access {
			inside <- true
			<-release
		}
		return nil
	})
	done := make(chan error)
	go func() {
		_, err := a.Replace(newSet(t, gcm.Access, gcm.Version{Epoch: 1, Number: 1}, group("staff")))
		done <- err
	}()
	<-inside
	if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 2}, device(1))); err != nil {
		t.Error(err)
	}
	if s := a.State().Sections[gcm.Access]; s.Version.Number != 0 {
		t.Errorf("acknowledged before it is in force: %+v", s)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFilesThatArent: each is told apart, and none is overwritten.
func TestFilesThatArent(t *testing.T) {
	dir, id := t.TempDir(), install(t).identity(t)
	file := filepath.Join(dir, "agent.db")
	a := open(t, new(gateway).config(file, id))
	if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1), device(2))); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(*bbolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(f), db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, path string)
		want error
	}{
		"text":            {func(t *testing.T, p string) { _ = os.WriteFile(p, make([]byte, 1<<16), 0o600) }, ErrForeign},
		"another version": {edit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte{0, 0, 0, 9}) }), ErrVersion},
		"another's":       {edit(func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketMeta) }), ErrForeign},
		"a record is lost": {edit(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketOf(gcm.Devices)).Delete(gcm.DeviceKey("device-1"))
		}), ErrCorrupt},
		"a section without its head": {edit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete([]byte(gcm.Devices)) }), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			c.harm(t, path)
			if _, err := New(new(gateway).config(path, id)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
