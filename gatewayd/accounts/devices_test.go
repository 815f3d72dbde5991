package accounts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/task"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// What happens to a device at enrollment, and what becomes of its account.
func TestDevices(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) {
		w := newWorld(t, open(t))
		ctx := t.Context()
		first := w.enroll("phone-1")
		w.follow()
		v, err := w.store.Device(ctx, "phone-1")
		if err != nil || !v.Open || v.User != "bob" || len(v.Groups) != 1 || !v.Enrolled.Equal(w.clock.Now()) {
			t.Fatalf("enrolled: %+v, %v", v, err)
		}
		if n := w.waiting("phone-1"); n != welcoming {
			t.Errorf("%d commands wait, want the schedule and the secret of notifications", n)
		}
		w.introduced("phone-1")
		// Renewed, and the first one given up: another one is good.
		renewed := w.sign(ca.Device, "phone-1")
		w.must(w.directory.Renew(ctx, directory.Renewal{Renews: ca.SerialString(first.SerialNumber), Signed: renewed, At: w.clock.Now(), By: alice, Most: 4, Since: w.clock.Now()}))
		w.revoke(first, ca.Superseded)
		w.follow()
		if !w.open("phone-1") {
			t.Error("closed although it has a good certificate")
		}
		// The last one.
		w.revoke(renewed.Certificate, ca.KeyCompromise)
		w.follow()
		if w.open("phone-1") {
			t.Error("open without a certificate")
		}
		// Enrolled anew, and once more: what is superseded closes nothing.
		w.enroll("phone-1")
		w.enroll("phone-1")
		w.follow()
		if !w.open("phone-1") || w.waiting("phone-1") != welcoming {
			t.Errorf("enrolled anew: open %t, %d commands", w.open("phone-1"), w.waiting("phone-1"))
		}
		w.must(w.directory.CloseDevice(ctx, alice, "phone-1", ca.CessationOfOperation, w.clock.Now()))
		w.follow()
		if w.open("phone-1") {
			t.Error("open after it was closed")
		}
		// Not a device's.
		admin := w.sign(ca.Admin, "carol")
		w.must(w.directory.Certify(ctx, alice, admin, w.clock.Now()))
		w.revoke(admin.Certificate, ca.KeyCompromise)
		w.follow()
		if n, err := w.store.Followed(ctx, Source); err != nil || n != w.Followed() || n == 0 {
			t.Errorf("followed up to %d, %v; known is %d", n, err, w.Followed())
		}
	})
}

// A schedule that is changed while a device enrolls reaches it.
func TestScheduleChangedMeanwhile(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	w.enroll("phone-1")
	s := schedule.Default()
	s.Every = time.Hour
	w.between(func(ctx context.Context) { w.must(w.desk.SetSchedule(ctx, "sales", 1, s)) })
	w.follow()
	if n := w.waiting("phone-1"); n != welcoming+1 {
		t.Errorf("%d commands wait, want one schedule more", n)
	}
}

// welcoming is how many commands a device gets first.
const welcoming = 2

// introduced: the device is told what its account has.
func (w *world) introduced(device string) {
	w.t.Helper()
	a, err := w.store.Account(w.t.Context(), device)
	w.must(err)
	all, err := w.store.Next(w.t.Context(), device, nil, 100)
	w.must(err)
	var told []string
	for _, k := range all {
		g, ok := k.Command.(*syncml.Group)
		if !ok {
			continue
		}
		for _, c := range g.Commands {
			if i := c.(*syncml.Op).Items[0]; strings.Contains(i.Target.URI, task.ServerCredentials) {
				told = append(told, string(i.Data))
			}
		}
	}
	if want := []string{a.ServerName, string(a.ServerPassword), string(a.ServerNonce)}; a.Scheme != session.Certificate || len(a.ServerPassword) < 16 || !slices.Equal(told, want) {
		w.t.Errorf("told %q, the account has %q", told, want)
	}
}

// between has something happen after a welcome was made and before it is put.
func (w *world) between(happens func(context.Context)) {
	w.Devices.desk = &late{w.desk, happens}
}

type late struct {
	Desk
	happens func(context.Context)
}

func (l *late) Welcome(ctx context.Context, v store.Device) (store.Task, error) {
	k, err := l.Desk.Welcome(ctx, v)
	l.happens(ctx)
	return k, err
}

// Several servers follow: each event counts once, and none is waited for.
func TestSeveralFollow(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	other := w.another()
	w.enroll("phone-1")
	w.follow()
	w.must(other.Read(t.Context()))
	w.enroll("phone-2")
	w.must(other.Read(t.Context()))
	w.follow()
	for _, name := range []string{"phone-1", "phone-2"} {
		if !w.open(name) || w.waiting(name) != welcoming {
			t.Errorf("%s: open %t, %d commands", name, w.open(name), w.waiting(name))
		}
	}
	if other.Followed() != 2 || w.Followed() != 2 {
		t.Errorf("followed up to %d and %d", w.Followed(), other.Followed())
	}
}

// failing accounts lose the answer of a transaction that was committed, or have
// none.
type failing struct {
	Accounts
	before, after int
}

var errCrash = errors.New("crash")

func (f *failing) Follow(ctx context.Context, source string, after, upTo int64, steps []store.Step) (bool, error) {
	if f.before > 0 {
		f.before--
		return false, errCrash
	}
	taken, err := f.Accounts.Follow(ctx, source, after, upTo, steps)
	if f.after > 0 {
		f.after--
		return false, errCrash
	}
	return taken, err
}

// A server that loses its database before or after the commit goes on where it
// was.
func TestLostAnswers(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	w.accounts = &failing{Accounts: w.accounts, before: 1, after: 1}
	w.enroll("phone-1")
	for n := range 2 {
		if err := w.Read(t.Context()); !errors.Is(err, errCrash) {
			t.Errorf("try %d: %v", n, err)
		}
	}
	w.follow()
	if !w.open("phone-1") || w.waiting("phone-1") != welcoming || w.Followed() != 1 {
		t.Errorf("open %t, %d commands, followed up to %d", w.open("phone-1"), w.waiting("phone-1"), w.Followed())
	}
}

// Events that were trimmed before they were followed are told, not passed over.
func TestGap(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	w.enroll("phone-1")
	w.enroll("phone-2")
	if _, err := w.directory.Outbox(t.Context(), 0, 10); err != nil {
		t.Fatal(err)
	}
	w.must(w.directory.TrimOutbox(t.Context(), 1))
	if err := w.Read(t.Context()); !errors.Is(err, ErrGap) {
		t.Errorf("%v, want %v", err, ErrGap)
	}
}

// A wipe ends the enrollment that it was ordered for, once, and no other.
func TestCloser(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	ctx := t.Context()
	c := Closer{Directory: w.directory, By: "manager", Now: w.clock.Now}
	w.enroll("phone-1")
	first := w.clock.Now()
	w.enroll("phone-1")
	second := w.clock.Now()
	w.must(c.CloseAccount(ctx, store.Wipe{Device: "phone-1", Enrolled: first}))
	if v, err := w.directory.Device(ctx, "phone-1"); err != nil || !v.Open {
		t.Errorf("the later enrollment: %+v, %v", v, err)
	}
	for range 2 { // the second after a crash
		w.must(c.CloseAccount(ctx, store.Wipe{Device: "phone-1", Enrolled: second}))
	}
	if v, err := w.directory.Device(ctx, "phone-1"); err != nil || v.Open {
		t.Errorf("after the wipe: %+v, %v", v, err)
	}
	w.must(c.CloseAccount(ctx, store.Wipe{Device: "nobody", Enrolled: second}))
}

// What is said about an account waits for who has to know of it, and fails rather
// than that it is lost.
func TestAwait(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t))
	w.enroll("phone-1")
	w.enroll("phone-2")
	w.follow()
	want, err := w.cursor(t.Context())
	w.must(err)
	at, trouble := want-2, error(nil)
	r := Reader{Name: "gateways", Cursor: func(context.Context) (int64, error) {
		at++
		return at, trouble
	}}
	if err := w.Await(t.Context(), r); err != nil || at != want {
		t.Errorf("at %d of %d: %v", at, want, err)
	}
	r.Cursor = func(context.Context) (int64, error) {
		w.clock.Add(time.Second)
		return want - 1, nil
	}
	if err := w.Await(t.Context(), r); !errors.Is(err, ErrBehind) {
		t.Errorf("it stays behind: %v", err)
	}
	trouble = errors.New("no database")
	r.Cursor = func(context.Context) (int64, error) { return want, trouble }
	if err := w.Await(t.Context(), r); !errors.Is(err, trouble) {
		t.Errorf("got %v", err)
	}
}
