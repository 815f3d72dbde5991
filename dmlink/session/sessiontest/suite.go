package sessiontest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Feeder puts tasks into the queue that is tested, in this order, and accounts
// of devices.
type Feeder interface {
	session.Queue
	session.Accounts
	Put(device string, tasks ...session.Task)
	PutAccount(device string, a session.Account)
}

// Task that replaces a node, for tests.
func Task(id string, s session.Semantics, uri, data string) session.Task {
	return session.Task{ID: id, Semantics: s, Command: Replace(uri, data)}
}

// Replace of one node.
func Replace(uri, data string) *syncml.Op {
	return &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{Target: syncml.Location{URI: uri}, Data: []byte(data), HasData: true}}}
}

// Run the suite on what open makes; each call makes an empty one.
func Run(t *testing.T, open func(t *testing.T) Feeder) {
	t.Run("order and bounds", func(t *testing.T) { testNext(t, open(t)) })
	t.Run("a claim is granted once", func(t *testing.T) { testClaim(t, open(t)) })
	t.Run("of racing claims one wins", func(t *testing.T) { testRace(t, open(t)) })
	t.Run("an outcome ends a task", func(t *testing.T) { testRecord(t, open(t)) })
	t.Run("what an account knows", func(t *testing.T) { testAccount(t, open(t)) })
	t.Run("a nonce is used once", func(t *testing.T) { testNonce(t, open(t)) })
}

func next(t *testing.T, q session.Queue, device string, except []string, n int) []session.Task {
	t.Helper()
	tasks, err := q.Next(t.Context(), device, except, n)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

func ids(tasks []session.Task) []string {
	var s []string
	for _, t := range tasks {
		s = append(s, t.ID)
	}
	return s
}

func testNext(t *testing.T, q Feeder) {
	q.Put("a", Task("1", session.Idempotent, "./A", "1"), Task("2", session.OnceOnly, "./B", "2"), Task("3", session.Idempotent, "./C", "3"))
	q.Put("b", Task("4", session.Idempotent, "./A", "1"))
	for _, c := range []struct {
		device string
		except []string
		n      int
		want   []string
	}{
		{"a", nil, 10, []string{"1", "2", "3"}},
		{"a", nil, 2, []string{"1", "2"}},
		{"a", []string{"1"}, 1, []string{"2"}},
		{"a", []string{"1", "2", "3"}, 10, nil},
		{"b", []string{"1"}, 10, []string{"4"}},
		{"c", nil, 10, nil},
	} {
		if got := ids(next(t, q, c.device, c.except, c.n)); !slices.Equal(got, c.want) {
			t.Errorf("Next(%s, %v, %d) = %v, want %v", c.device, c.except, c.n, got, c.want)
		}
	}
	task := next(t, q, "a", nil, 2)[1]
	op, ok := task.Command.(*syncml.Op)
	if !ok || op.Verb != syncml.Replace || op.Items[0].Target.URI != "./B" || string(op.Items[0].Data) != "2" || task.Semantics != session.OnceOnly || task.Attempt != 0 {
		t.Errorf("the task came back as %+v, %+v", task, task.Command)
	}
}

func testClaim(t *testing.T, q Feeder) {
	q.Put("a", Task("1", session.OnceOnly, "./A", "1"), Task("2", session.Idempotent, "./B", "2"))
	claim := func(device string, claims ...session.Claim) []bool {
		t.Helper()
		granted, err := q.Claim(t.Context(), device, claims)
		if err != nil {
			t.Fatal(err)
		}
		return granted
	}
	if got := claim("a", session.Claim{Task: "1"}, session.Claim{Task: "2", Attempt: 1}); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("the first claim and one with a wrong attempt: %v", got)
	}
	if got := claim("a", session.Claim{Task: "1"}, session.Claim{Task: "2"}); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("a claim again and a first one: %v", got)
	}
	if got := claim("b", session.Claim{Task: "1", Attempt: 1}); got[0] {
		t.Error("a device has claimed what belongs to another")
	}
	if got := claim("a", session.Claim{Task: "9"}); got[0] {
		t.Error("a task was granted that isn't there")
	}
	tasks := next(t, q, "a", nil, 10)
	if len(tasks) != 2 || tasks[0].Attempt != 1 || tasks[1].Attempt != 1 {
		t.Errorf("after one claim each: %+v", tasks)
	}
}

func testRace(t *testing.T, q Feeder) {
	const tasks, racers = 20, 4
	for i := range tasks {
		q.Put("a", Task(fmt.Sprint(i), session.OnceOnly, "./A", "1"))
	}
	var won [tasks]atomic.Int32
	var group sync.WaitGroup
	for range racers {
		group.Go(func() {
			for i := range tasks {
				granted, err := q.Claim(t.Context(), "a", []session.Claim{{Task: fmt.Sprint(i)}})
				if err != nil {
					t.Error(err)
					return
				}
				if granted[0] {
					won[i].Add(1)
				}
			}
		})
	}
	group.Wait()
	for i := range won {
		if n := won[i].Load(); n != 1 {
			t.Errorf("task %d was granted %d times", i, n)
		}
	}
}

func testRecord(t *testing.T, q Feeder) {
	q.Put("a", Task("1", session.OnceOnly, "./A", "1"), Task("2", session.Idempotent, "./B", "2"))
	if _, err := q.Claim(t.Context(), "a", []session.Claim{{Task: "1"}, {Task: "2"}}); err != nil {
		t.Fatal(err)
	}
	report := session.Report{
		At:       time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC),
		Outcomes: []session.Outcome{{Task: "1", State: session.Answered, Code: 200}},
		DevInfo:  []session.Value{{URI: "./DevInfo/Mod", Data: []byte("X")}},
		Alerts:   []session.Alert{{Code: syncml.AlertGeneric, Correlator: "1"}},
	}
	for range 2 { // the same once more changes nothing
		if err := q.Record(t.Context(), "a", report); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(next(t, q, "a", nil, 10)); !slices.Equal(got, []string{"2"}) {
		t.Errorf("after an outcome of 1 there wait %v", got)
	}
	if granted, err := q.Claim(t.Context(), "a", []session.Claim{{Task: "1", Attempt: 1}}); err != nil || granted[0] {
		t.Errorf("a task that has an outcome was granted: %v, %v", granted, err)
	}
	// What another device says is about its own tasks.
	other := session.Report{Outcomes: []session.Outcome{{Task: "2", State: session.Answered, Code: 200}}}
	if err := q.Record(t.Context(), "b", other); err != nil {
		t.Fatal(err)
	}
	if got := ids(next(t, q, "a", nil, 10)); !slices.Equal(got, []string{"2"}) {
		t.Errorf("another device's word ended task 2: %v wait", got)
	}
}

func testAccount(t *testing.T, q Feeder) {
	account := func() session.Account {
		t.Helper()
		a, err := q.Account(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	q.PutAccount("a", session.Account{})
	q.Put("a", Task("1", session.Idempotent, "./A", "1"))
	if a := account(); a.Idle || a.InfoDigest != nil {
		t.Errorf("with a task: %+v", a)
	}
	for _, r := range []session.Report{
		{DevInfo: []session.Value{{URI: "./DevInfo/Mod", Data: []byte("X")}}, InfoDigest: []byte("digest")},
		{Outcomes: []session.Outcome{{Task: "1", Code: 200}}},
	} {
		if err := q.Record(t.Context(), "a", r); err != nil {
			t.Fatal(err)
		}
		if a := account(); string(a.InfoDigest) != "digest" {
			t.Errorf("digest %q", a.InfoDigest)
		}
	}
	q.Put("a", Task("2", session.OnceOnly, "./A", "1"))
	if _, err := q.Claim(t.Context(), "a", []session.Claim{{Task: "2"}}); err != nil {
		t.Fatal(err)
	}
	if account().Idle {
		t.Error("idle with a task that was claimed and has no outcome")
	}
}

func testNonce(t *testing.T, q Feeder) {
	if _, err := q.Account(t.Context(), "a"); !errors.Is(err, session.ErrNoAccount) {
		t.Errorf("account of nobody: %v", err)
	}
	q.PutAccount("a", session.Account{Scheme: session.MD5, Name: "n", Password: []byte("p"), Nonce: []byte("one")})
	if err := q.UseNonce(t.Context(), "a", []byte("one"), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := q.UseNonce(t.Context(), "a", []byte("one"), []byte("three")); !errors.Is(err, session.ErrNonceUsed) {
		t.Errorf("a nonce used twice: %v", err)
	}
	if err := q.ServerNonce(t.Context(), "a", []byte("ours")); err != nil {
		t.Fatal(err)
	}
	a, err := q.Account(t.Context(), "a")
	if err != nil || string(a.Nonce) != "two" || string(a.ServerNonce) != "ours" || a.Name != "n" || string(a.Password) != "p" || a.Scheme != session.MD5 {
		t.Errorf("account %+v, %v", a, err)
	}
	a.Erase() // the caller's copy
	if a, _ = q.Account(t.Context(), "a"); string(a.Password) != "p" {
		t.Error("erasing a copy erased the account")
	}
}
