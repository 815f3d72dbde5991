package ticketkeys

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ticket"
)

const life = 8 * time.Hour

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, path string) *Keeper {
	t.Helper()
	k, err := Open(path, life, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.keys")
	first := open(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	// What a crash left in the middle of writing is no obstacle.
	if err := os.WriteFile(path+".new", []byte("roamgate tic"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	if !first.ring.Keys().Same(second.ring.Keys()) {
		t.Error("other keys after a restart")
	}
	if err := second.Refresh(time.Now().Add(90*time.Minute), life); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	_ = second.Close()
	if len(second.ring.Keys()) != 0 {
		t.Error("keys in memory after the end")
	}
}

// Several gateways find a new key due at once, and on other days one takes up
// what another one made.
func TestGatewaysShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.keys")
	var keepers []*Keeper
	for range 5 {
		keepers = append(keepers, open(t, path))
	}
	for hour := range 12 {
		now := time.Now().Add(time.Duration(hour) * time.Hour)
		var all sync.WaitGroup
		for _, k := range keepers {
			all.Go(func() {
				if err := k.Refresh(now, life); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, k := range keepers[1:] {
			if !k.ring.Keys().Same(keepers[0].ring.Keys()) {
				t.Fatalf("hour %d: two gateways have different keys", hour)
			}
		}
	}
}

// Gateways that share a file give tickets of different lifetimes: keys are kept
// for the longest, whoever looks at the file.
func TestGatewaysOfDifferentLifetimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.keys")
	short, long := open(t, path), open(t, path)
	began := time.Now()
	oldest := func() ticket.Key { return short.ring.Keys()[0] }
	if err := errors.Join(long.Refresh(began, 3*life), short.Refresh(began, life)); err != nil {
		t.Fatal(err)
	}
	first := oldest()
	for hour := range 30 {
		now := began.Add(time.Duration(hour) * time.Hour)
		if err := errors.Join(short.Refresh(now, life), long.Refresh(now, 3*life), short.Refresh(now, life)); err != nil {
			t.Fatal(err)
		}
		if kept := oldest().ID == first.ID; kept != (hour <= 24) {
			t.Fatalf("hour %d: the first key is there: %t", hour, kept)
		}
		if !short.ring.Keys().Same(long.ring.Keys()) {
			t.Fatalf("hour %d: two gateways have different keys", hour)
		}
	}
}

func TestAFileThatIsNoGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.keys")
	k := open(t, path)
	held := k.ring.Keys()
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := k.Refresh(time.Now(), life); !errors.Is(err, ErrMode) {
		t.Errorf("readable for others: %v", err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("nonsense"), 0o600), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := k.Refresh(time.Now(), life); !errors.Is(err, ticket.ErrKeys) {
		t.Errorf("nonsense: %v", err)
	}
	if !k.ring.Keys().Same(held) {
		t.Error("the keys in use changed")
	}
	if _, err := Open(path, life, quiet); !errors.Is(err, ticket.ErrKeys) {
		t.Errorf("opened: %v", err)
	}
	// Lost: there are new ones, and old tickets are of unknown keys.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := k.Refresh(time.Now(), life); err != nil || k.ring.Keys().Same(held) {
		t.Errorf("after it was lost: %v", err)
	}
}
