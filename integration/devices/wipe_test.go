package devices

import (
	"context"
	crand "crypto/rand"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// A stolen phone, to the end: it is wiped in its next session, its account is
// closed, gateways hear of it, it gets in no more; found again, and enrolled
// anew, it does.
func TestWipe(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { wiped(t, databasetest.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { wiped(t, databasetest.Postgres(t, postgres.Start(t))) })
}

// closed remembers whose account was closed.
type closed []store.Wipe

func (c *closed) CloseAccount(_ context.Context, w store.Wipe) error {
	*c = append(*c, w)
	return nil
}

func wiped(t *testing.T, db *database.DB) {
	ctx := t.Context()
	s := storetest.Store(t, db, nil)
	handler := server.New(server.Config{
		Session:  session.Config{Queue: s, Accounts: s, Rand: crand.Reader},
		Identify: identify,
	})
	lab := newLaboratory(t)
	issuer := lab.issuer(t, func(uint64) string { return "phone" })
	web := httptest.NewUnstartedServer(handler)
	config, err := lab.server()
	if err != nil {
		t.Fatal(err)
	}
	web.TLS = config
	web.StartTLS()
	phones := client(t, lab.roots(t), issuer, 0)
	t.Cleanup(func() {
		phones.CloseIdleConnections()
		web.Close()
		handler.Close()
	})
	desk := task.New(task.Options{Store: s, Provider: "roamgate"})
	accounts := &closed{}
	keeper := task.NewKeeper(s, accounts, task.KeeperOptions{})
	path := filepath.Join(t.TempDir(), "journal")
	journal, err := dm.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	client := dm.New(dm.Config{
		URL: web.URL + "/dm", Device: "phone", Server: "roamgate", Syntax: syncml.XML, Tree: phone("phone"),
		Client: phones, Account: &dm.Account{Scheme: session.Certificate}, Journal: journal,
	})
	enroll := func() {
		t.Helper()
		if err := s.Enroll(ctx, store.Device{Name: "phone", IMEI: "35-1", Enrolled: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	come := func(want error) {
		t.Helper()
		if _, err := client.Session(ctx); !errors.Is(err, want) {
			t.Fatalf("session: %v, want %v", err, want)
		}
	}
	enroll()
	come(nil)
	placed, err := desk.Place(ctx, task.Request{Type: "wipe", Target: task.Target{IMEI: "35-1"}, By: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	come(nil)
	if all, err := s.CommandsOfTask(ctx, placed.ID, "", 0); err != nil || len(all) != 1 || !all[0].Succeeded() {
		t.Fatalf("commands %+v, %v", all, err)
	}
	come(dm.ErrStatus) // closed from this moment on, whatever else is still to do
	if err := keeper.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	w, err := s.Wipe(ctx, "phone")
	if err != nil || w.State != store.WipeClosed || w.Reason != store.WipedReason || len(*accounts) != 1 {
		t.Errorf("wipe %+v, %v, accounts %+v", w, err, *accounts)
	}
	if events, err := s.Outbox(ctx, 0, 0); err != nil || len(events) != 1 || events[0].Kind != store.Closed {
		t.Errorf("outbox %+v, %v", events, err)
	}
	enroll()
	come(nil)
	entries, err := dm.ReadJournal(path)
	if err != nil || len(entries) != 1 || entries[0].URI != wipe {
		t.Errorf("the phone has executed %+v, %v", entries, err)
	}
}
