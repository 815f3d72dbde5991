package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

func (s *suite) devices() {
	ctx := s.t.Context()
	v := s.enroll("a", "staff", "sales", "staff")
	s.enroll("b", "staff")
	got, err := s.Device(ctx, "a")
	s.must(err)
	if got.User != "bob" || !got.Open || !slices.Equal(got.Groups, []string{"sales", "staff"}) || !got.Enrolled.Equal(v.Enrolled) || !got.Seen.IsZero() {
		s.t.Errorf("device %+v", got)
	}
	for _, f := range []store.DeviceFilter{{IMEI: "imei-a"}, {IMSI: "imsi-a"}, {Phone: "+1a"}, {Group: "sales"}, {User: "bob", Limit: 1}, {Open: true, Limit: 1}} {
		all, err := s.Devices(ctx, f)
		s.must(err)
		if len(all) != 1 || all[0].Name != "a" {
			s.t.Errorf("%+v: %+v", f, all)
		}
	}
	if all, err := s.Devices(ctx, store.DeviceFilter{After: "a"}); err != nil || len(all) != 1 || all[0].Name != "b" {
		s.t.Errorf("after a: %+v, %v", all, err)
	}
	s.must(s.SetGroups(ctx, "a", nil))
	s.want(s.SetGroups(ctx, "c", nil), store.ErrNotFound)
	if got, err = s.Device(ctx, "a"); err != nil || len(got.Groups) != 0 {
		s.t.Errorf("groups %v, %v", got.Groups, err)
	}
	// The same enrollment again takes over what is new, and an old tale nothing.
	v.Phone = "+2"
	s.must(s.Enroll(ctx, v))
	old := v
	old.Enrolled, old.Phone = v.Enrolled.Add(-time.Hour), "+3"
	s.must(s.Enroll(ctx, old))
	if got, err = s.Device(ctx, "a"); err != nil || got.Phone != "+2" || len(got.Groups) != 2 {
		s.t.Errorf("told again: %+v, %v", got, err)
	}
	_, err = s.Device(ctx, "c")
	s.want(err, store.ErrNotFound)
	s.want(s.Enroll(ctx, store.Device{Name: "c"}), store.ErrInvalid)

	// Closed, twice; of an earlier enrollment never.
	s.must(s.Close(ctx, "a", v.Enrolled.Add(-time.Second), "mistaken"))
	_, task := s.put(s.order(session.Idempotent, exec("./A")), "a")
	for range 2 {
		s.must(s.Close(ctx, "a", v.Enrolled, "left"))
	}
	s.state(task, "a", store.Cancelled)
	if got, err = s.Device(ctx, "a"); err != nil || got.Open || got.Closed.IsZero() {
		s.t.Errorf("closed: %+v, %v", got, err)
	}
	_, err = s.Account(ctx, "a")
	s.want(err, session.ErrNoAccount)
	_, _, err = s.Put(ctx, s.order(session.Idempotent, exec("./A")), "b", "a")
	s.want(err, store.ErrClosed)
	if len(s.waits("b")) != 0 {
		s.t.Error("a task that failed for one device waits for another")
	}
	events, err := s.Outbox(ctx, 0, 0)
	s.must(err)
	if len(events) != 1 || events[0].Device != "a" || events[0].Kind != store.Closed || events[0].Reason != "left" {
		s.t.Errorf("outbox %+v", events)
	}
}

func (s *suite) accounts() {
	ctx := s.t.Context()
	s.enroll("a")
	s.want(s.PutAccount(ctx, "b", session.Account{}), store.ErrNotFound)
	a := session.Account{Scheme: session.HMAC, Name: "n", Password: []byte("secret p"), ServerName: "s", ServerPassword: []byte("secret s"), ServerNonce: []byte{0}}
	s.must(s.PutAccount(ctx, "a", a))
	got, err := s.Account(ctx, "a")
	s.must(err)
	a.Idle = true
	if !reflect.DeepEqual(got, a) {
		s.t.Errorf("account %+v, want %+v", got, a)
	}
	// Whoever reads the database reads no secret, nor can move one.
	var sealed []byte
	s.must(s.DB().QueryRowContext(ctx, `SELECT secret FROM dm_device WHERE name = $1`, "a").Scan(&sealed))
	if len(sealed) != len(a.Password)+24+16 || slices.ContainsFunc([]string{"secret"}, func(w string) bool { return string(sealed[24:30]) == w }) {
		s.t.Errorf("sealed as %q", sealed)
	}
	s.enroll("b")
	_, err = s.DB().ExecContext(ctx, `UPDATE dm_device SET secret = $1 WHERE name = $2`, sealed, "b")
	s.must(err)
	_, err = s.Account(ctx, "b")
	s.want(err, store.ErrInvalid)
	blind, err := store.New(ctx, s.database, store.Options{})
	s.must(err)
	_, err = blind.Account(ctx, "a")
	s.want(err, store.ErrInvalid)
	s.want(blind.PutAccount(ctx, "a", a), store.ErrInvalid)
	// A nonce that is none, and one that is nil.
	s.must(s.UseNonce(ctx, "a", nil, []byte("one")))
	s.want(s.UseNonce(ctx, "a", nil, []byte("two")), session.ErrNonceUsed)
	s.want(s.UseNonce(ctx, "c", nil, []byte("two")), session.ErrNoAccount)
	s.want(s.ServerNonce(ctx, "c", nil), store.ErrNotFound)
}

// Every command comes back as it was put.
func (s *suite) commands() {
	s.enroll("a")
	item := syncml.Item{
		Target: syncml.Location{URI: "./A", Name: "n"}, Source: syncml.Location{URI: "./B"},
		Meta: syncml.Meta{Format: "bin", Type: "text/plain", Mark: "m"}, Data: []byte{0, 0xFF, '<'}, HasData: true,
	}
	empty := syncml.Item{Target: syncml.Location{URI: "./E"}, Data: []byte{}, HasData: true}
	none := syncml.Item{Target: syncml.Location{URI: "./N"}}
	markup := syncml.Item{Target: syncml.Location{URI: "./M"}, Data: []byte("<a/>"), HasData: true, Markup: true}
	op := &syncml.Op{Verb: syncml.Replace, Correlator: "c", Meta: syncml.Meta{Format: "xml"}, Items: []syncml.Item{item, empty, none, markup}}
	want := []store.Task{
		s.order(session.OnceOnly, op),
		s.order(session.Idempotent, &syncml.Alert{Code: syncml.AlertDisplay, Items: []syncml.Item{empty}}),
		s.order(session.Queryable, &syncml.Group{Atomic: true, Commands: []syncml.Command{op, &syncml.Group{Commands: []syncml.Command{exec("./X")}}}}),
		s.order(session.Queryable, exec("./Y")),
	}
	want[2].Query = &session.Query{URI: "./Q", Want: []byte{}, Gone: false}
	want[3].Query = &session.Query{URI: "./Q", Gone: true}
	for i := range want {
		_, want[i].ID = s.put(want[i], "a")
		got, err := s.Task(s.t.Context(), want[i].ID)
		s.must(err)
		if !reflect.DeepEqual(got, want[i]) {
			s.t.Errorf("task came back as %+v, want %+v", got, want[i])
		}
	}
	tasks, err := s.Next(s.t.Context(), "a", nil, 10)
	s.must(err)
	for i, k := range tasks {
		if !reflect.DeepEqual(k.Command, want[i].Command) || !reflect.DeepEqual(k.Query, want[i].Query) || k.Semantics != want[i].Semantics {
			s.t.Errorf("the session gets %+v", k)
		}
	}
}

func (s *suite) groups() {
	ctx := s.t.Context()
	s.enroll("a", "g")
	s.enroll("b", "g", "h")
	s.enroll("c", "h")
	gone := s.enroll("d", "g")
	s.must(s.Close(ctx, "d", gone.Enrolled, "left"))
	_, _ = s.put(s.order(session.Idempotent, exec("./Old")), "a")
	k := s.order(session.Idempotent, exec("./Urgent"))
	k.Group, k.Urgency, k.ID = "g", -1, "mine"
	id, n, err := s.Put(ctx, k)
	s.must(err)
	if id != "mine" || n != 2 || len(s.waits("c")) != 0 || len(s.waits("a")) != 2 {
		s.t.Errorf("%s for %d devices; c: %v, a: %v", id, n, s.waits("c"), s.waits("a"))
	}
	if first := s.waits("a")[0]; first != strconv.FormatInt(s.command("mine", "a").ID, 10) {
		s.t.Errorf("the urgent one isn't first: %v", s.waits("a"))
	}
	_, _, err = s.Put(ctx, k)
	s.want(err, store.ErrExists)
	if len(s.waits("a")) != 2 {
		s.t.Errorf("put twice: %v", s.waits("a"))
	}
	s.enroll("e", "g") // came later
	if len(s.waits("e")) != 0 {
		s.t.Error("a task for a group reached whom it wasn't put for")
	}
}

func (s *suite) badTasks() {
	ctx := s.t.Context()
	s.enroll("a", "g")
	good := s.order(session.Idempotent, exec("./A"))
	for name, change := range map[string]func(*store.Task){
		"no kind":       func(k *store.Task) { k.Kind = "" },
		"ended before":  func(k *store.Task) { k.Expires = k.Created },
		"both":          func(k *store.Task) { k.Group = "g" },
		"no command":    func(k *store.Task) { k.Command = nil },
		"a status":      func(k *store.Task) { k.Command = &syncml.Status{} },
		"a large one":   func(k *store.Task) { k.Command.(*syncml.Op).Items[0].Data = make([]byte, 5<<20) },
		"too deep":      func(k *store.Task) { k.Command = nest(9) },
		"a status deep": func(k *store.Task) { k.Command = &syncml.Group{Commands: []syncml.Command{&syncml.Status{}}} },
	} {
		k := good
		k.Command = exec("./A")
		change(&k)
		if _, _, err := s.Put(ctx, k, "a"); err == nil {
			s.t.Errorf("%s: put", name)
		} else {
			s.want(err, store.ErrInvalid)
		}
	}
	_, _, err := s.Put(ctx, good)
	s.want(err, store.ErrInvalid)
	_, _, err = s.Put(ctx, good, "a", "nobody")
	s.want(err, store.ErrNotFound)
	good.Closes, good.Group = true, "g"
	_, _, err = s.Put(ctx, good)
	s.want(err, store.ErrInvalid)
	if len(s.waits("a")) != 0 {
		s.t.Errorf("there wait %v", s.waits("a"))
	}
}

func nest(n int) syncml.Command {
	if n == 0 {
		return exec("./A")
	}
	return &syncml.Group{Commands: []syncml.Command{nest(n - 1)}}
}

func (s *suite) outbox() {
	ctx := s.t.Context()
	for i := range 5 {
		v := s.enroll(fmt.Sprint("d", i))
		s.must(s.Close(ctx, v.Name, v.Enrolled, "left"))
	}
	events, err := s.Outbox(ctx, 0, 3)
	s.must(err)
	if len(events) != 3 || events[0].Number != 1 || events[2].Device != "d2" {
		s.t.Errorf("the first three: %+v", events)
	}
	s.must(s.TrimOutbox(ctx, 100))
	v := s.enroll("late")
	s.must(s.Close(ctx, v.Name, v.Enrolled, "left"))
	if events, err = s.Outbox(ctx, 3, 0); err != nil || len(events) != 2 || events[0].Number != 5 || events[1].Number != 6 {
		s.t.Errorf("after trimming: %+v, %v", events, err)
	}
}

func (s *suite) pages() {
	ctx := s.t.Context()
	s.enroll("a", "g")
	s.enroll("b", "g")
	var tasks []string
	for range 5 {
		k := s.order(session.Idempotent, exec("./A"))
		k.Group = "g"
		id, _, err := s.Put(ctx, k)
		s.must(err)
		tasks = append(tasks, id)
		s.clock.Add(time.Second)
	}
	var got []string
	var last store.Task
	for {
		all, err := s.Tasks(ctx, last, 2)
		s.must(err)
		if len(all) == 0 {
			break
		}
		for _, k := range all {
			got = append(got, k.ID)
		}
		last = all[len(all)-1]
	}
	slices.Reverse(got)
	if !slices.Equal(got, tasks) {
		s.t.Errorf("tasks %v, want %v", got, tasks)
	}
	first, err := s.CommandsOfDevice(ctx, "b", 0, 3)
	s.must(err)
	rest, err := s.CommandsOfDevice(ctx, "b", first[2].ID, 3)
	s.must(err)
	if len(first) != 3 || len(rest) != 2 || first[0].Task != tasks[4] || rest[1].Task != tasks[0] {
		s.t.Errorf("commands of b: %+v, %+v", first, rest)
	}
	if all, err := s.CommandsOfTask(ctx, tasks[0], "a", 0); err != nil || len(all) != 1 || all[0].Device != "b" {
		s.t.Errorf("commands of a task after a: %+v, %v", all, err)
	}
}
