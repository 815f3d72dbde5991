package dm

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

const wipe = "./Vendor/MSFT/RemoteWipe/doWipe"

// executions of an URI by the journal of a device.
func executions(t *testing.T, cfg *Config, uri string) int {
	t.Helper()
	entries, err := ReadJournal(cfg.Journal.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.URI == uri && !e.Lied {
			n++
		}
	}
	return n
}

// A device that dies between Exec and Status has executed the command once and
// is never told again; the administrator sees that nobody knows.
func TestCrashBetweenExecAndStatus(t *testing.T) {
	w := newWorld(t, nil)
	client, cfg := w.device(t, "phone", func(c *Config) { c.Faults.CrashAfter = wipe })
	w.Put("phone", exec("wipe", wipe, ""), sessiontest.Task("set", session.Idempotent, "./Settings/A", "new"))
	if _, err := client.Session(t.Context()); !errors.Is(err, ErrCrashed) {
		t.Fatalf("error %v", err)
	}
	if o, claims := w.Outcome("phone", "wipe"); o != nil || claims != 1 {
		t.Fatalf("outcome %+v after %d claims", o, claims)
	}
	cfg.Faults = Faults{}
	for range 3 {
		if _, err := New(*cfg).Session(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if o, claims := w.Outcome("phone", "wipe"); o == nil || o.State != session.Unknown || claims != 1 {
		t.Errorf("outcome %+v after %d claims, want it unknown after one", o, claims)
	}
	if n := executions(t, cfg, wipe); n != 1 {
		t.Errorf("executed %d times", n)
	}
	// What may be repeated was.
	w.answered(t, "phone", "set", 200)
	if value(t, cfg.Tree, "./Settings/A") != "new" {
		t.Error("the idempotent command after it wasn't executed")
	}
}

// An answer with a once-only command isn't repeated either, because the command
// may have been executed: by a device that crashed and begins anew with the same
// words, or one whose connection broke.
func TestRepeatedOnceOnly(t *testing.T) {
	w := newWorld(t, nil)
	client, cfg := w.device(t, "phone", func(c *Config) { c.Faults.Repeat = true })
	w.Put("phone", exec("wipe", wipe, ""))
	if _, err := client.Session(t.Context()); !errors.Is(err, ErrServer) {
		t.Fatalf("error %v, want the second answer to be another one", err)
	}
	if o, claims := w.Outcome("phone", "wipe"); o == nil || o.State != session.Unknown || claims != 1 {
		t.Errorf("outcome %+v after %d claims", o, claims)
	}
	w.Put("phone", sessiontest.Task("set", session.Idempotent, "./Settings/A", "1"), exec("later", wipe, ""))
	cfg.FirstSession = 2
	if _, err := New(*cfg).Session(t.Context()); !errors.Is(err, ErrServer) {
		t.Fatalf("error %v", err)
	}
	if n := executions(t, cfg, wipe); n != 0 {
		t.Errorf("executed %d times", n)
	}
}

// A device that vanishes with a message: each command after its semantics.
func TestVanish(t *testing.T) {
	query := &session.Query{URI: "./Settings/B", Want: []byte("done")}
	for _, c := range []struct {
		name      string
		task      session.Task
		done      bool // the effect was there before the device came back
		state     session.State
		claims    int
		executed  int
		noOutcome bool
	}{
		{name: "idempotent", task: sessiontest.Task("1", session.Idempotent, "./Settings/B", "done"), state: session.Answered, claims: 2, executed: 1},
		{name: "once-only", task: sessiontest.Task("1", session.OnceOnly, "./Settings/B", "done"), state: session.Unknown, claims: 1},
		{name: "queryable, not done", task: session.Task{ID: "1", Semantics: session.Queryable, Query: query, Command: sessiontest.Replace("./Settings/B", "done")}, state: session.Answered, claims: 2, executed: 1},
		{name: "queryable, done", done: true, task: session.Task{ID: "1", Semantics: session.Queryable, Query: query, Command: sessiontest.Replace("./Settings/B", "done")}, state: session.Confirmed, claims: 1},
		{name: "queryable, gone", task: session.Task{ID: "1", Semantics: session.Queryable, Query: &session.Query{URI: "./Settings/X", Gone: true}, Command: sessiontest.Replace("./Settings/B", "done")}, state: session.Confirmed, claims: 1},
		{name: "queryable without a query", task: session.Task{ID: "1", Semantics: session.Queryable, Command: sessiontest.Replace("./Settings/B", "done")}, state: session.Unknown, claims: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			client, cfg := w.device(t, "phone", func(c *Config) { c.Faults.VanishAfter = 1 })
			w.Put("phone", c.task)
			if _, err := client.Session(t.Context()); !errors.Is(err, ErrVanished) {
				t.Fatalf("error %v", err)
			}
			cfg.Faults, cfg.FirstSession = Faults{}, 2
			if c.done {
				// Set by the device itself, not by a session.
				cfg.Tree.Put("./Settings/B", tree.Node{Value: tree.Value{Data: []byte("done")}}, time.Time{})
			}
			if _, err := New(*cfg).Session(t.Context()); err != nil {
				t.Fatal(err)
			}
			o, claims := w.Outcome("phone", "1")
			if o == nil || o.State != c.state || claims != c.claims {
				t.Errorf("outcome %+v after %d claims, want state %d after %d", o, claims, c.state, c.claims)
			}
			if n := executions(t, cfg, "./Settings/B"); n != c.executed && !c.done {
				t.Errorf("executed %d times, want %d", n, c.executed)
			}
		})
	}
}

func TestFailAndLie(t *testing.T) {
	w := newWorld(t, nil)
	client, cfg := w.device(t, "phone", func(c *Config) {
		c.Faults.Fail = map[string]int{"./Settings/A": 500}
		c.Faults.Lie = map[string]bool{"./Settings/B": true}
	})
	w.Put("phone", sessiontest.Task("fail", session.Idempotent, "./Settings/A", "1"), sessiontest.Task("lie", session.Idempotent, "./Settings/B", "1"), get("get", "./Settings/B"))
	if _, err := client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.answered(t, "phone", "fail", 500)
	w.answered(t, "phone", "lie", 200)
	if o := w.answered(t, "phone", "get", 200); string(o.Results[0].Data) != "old" {
		t.Errorf("asked after a lie, the device says %q", o.Results[0].Data)
	}
	if n := executions(t, cfg, "./Settings/B"); n != 0 {
		t.Errorf("the journal has %d executions of what was only said", n)
	}
}

// A device that aborts with commands outstanding: once-only ones are unknown,
// others wait.
func TestAbort(t *testing.T) {
	w := newWorld(t, nil)
	client, _ := w.device(t, "phone", func(c *Config) { c.Faults.AbortAfter = 1 })
	w.Put("phone", exec("once", wipe, ""), sessiontest.Task("set", session.Idempotent, "./Settings/A", "new"))
	if _, err := client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o, _ := w.Outcome("phone", "once"); o == nil || o.State != session.Unknown {
		t.Errorf("once-only: %+v", o)
	}
	if o, claims := w.Outcome("phone", "set"); o != nil || claims != 1 {
		t.Errorf("idempotent: %+v after %d claims", o, claims)
	}
}

// A queue that fails: nothing leaves, the device comes again, nothing is lost or
// done twice.
func TestQueueFails(t *testing.T) {
	w := newWorld(t, nil)
	client, cfg := w.device(t, "phone", nil)
	w.Put("phone", exec("once", wipe, ""))
	w.Fail(errors.New("the database is away"))
	if _, err := client.Session(t.Context()); !errors.Is(err, ErrStatus) {
		t.Fatalf("error %v", err)
	}
	w.Fail(nil)
	if _, err := client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.answered(t, "phone", "once", 200)
	if n := executions(t, cfg, wipe); n != 1 {
		t.Errorf("executed %d times", n)
	}
}

// Alerts of a device reach the queue, with what is in them.
func TestDeviceAlerts(t *testing.T) {
	w := newWorld(t, nil)
	client, _ := w.device(t, "phone", func(c *Config) {
		c.ServerInitiated = true
		c.Alerts = []*syncml.Alert{
			{Code: syncml.AlertGeneric, Correlator: "job-7", Items: []syncml.Item{{
				Source: syncml.Location{URI: "./SwMgmt"}, Meta: syncml.Meta{Type: "urn:oma:at:scomo:1.0:OperationComplete", Format: "chr", Mark: "informational"},
				Data: []byte("1200"), HasData: true,
			}}},
			{Code: syncml.AlertClientEvent, Items: []syncml.Item{{Meta: syncml.Meta{Type: "com.microsoft/MDM/LoginStatus"}, Data: []byte("user"), HasData: true}}},
		}
	})
	if _, err := client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range w.Reports() {
		for _, a := range r.Alerts {
			got = append(got, fmt.Sprint(a.Code, a.Correlator, a.Items[0].Meta.Type, string(a.Items[0].Data)))
		}
	}
	want := fmt.Sprint([]string{"1226job-7urn:oma:at:scomo:1.0:OperationComplete1200", "1224com.microsoft/MDM/LoginStatususer"})
	if fmt.Sprint(got) != want {
		t.Errorf("alerts %v, want %s", got, want)
	}
}

// What the user answers to an alert comes back as its outcome.
func TestUserInteraction(t *testing.T) {
	w := newWorld(t, nil)
	client, _ := w.device(t, "phone", func(c *Config) {
		c.Answers = map[int]Answer{syncml.AlertInput: {Code: 200, Data: "blue"}, syncml.AlertConfirm: {Code: syncml.StatusCancelled}}
	})
	w.Put("phone",
		session.Task{ID: "input", Command: &syncml.Alert{Code: syncml.AlertInput, Items: []syncml.Item{{Data: []byte("MINDT=10")}, {Data: []byte("Colour?")}}}},
		session.Task{ID: "confirm", Command: &syncml.Alert{Code: syncml.AlertConfirm, Items: []syncml.Item{{Data: []byte("MINDT=10")}, {Data: []byte("Sure?")}}}},
	)
	if _, err := client.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := w.answered(t, "phone", "input", 200); len(o.Results) != 1 || string(o.Results[0].Data) != "blue" {
		t.Errorf("input: %+v", o.Results)
	}
	w.answered(t, "phone", "confirm", 214)
}
