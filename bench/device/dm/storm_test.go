package dm

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// Devices that crash, vanish, repeat themselves, abort and use session IDs
// again, with two servers on one queue, which are replaced while they work and
// lose their sessions. In the end, judged from what the devices wrote down: no
// once-only command ran twice, those that are said to have run did, and every
// command has an outcome.
func TestStorm(t *testing.T) {
	const devices, rounds = 24, 6
	w := newWorld(t, nil)
	var mu sync.RWMutex
	var servers [2]*httptest.Server
	raise := func(i int) {
		cfg := server.Config{
			Session:  session.Config{Queue: w, Accounts: w, Rand: crand.Reader},
			Identify: func(r *http.Request) (string, error) { return r.Header.Get(certHeader), nil },
		}
		handler := server.New(cfg)
		fresh := httptest.NewServer(handler)
		t.Cleanup(handler.Close)
		mu.Lock()
		old := servers[i]
		servers[i] = fresh
		mu.Unlock()
		if old != nil {
			old.CloseClientConnections()
			old.Close()
		}
	}
	raise(0)
	raise(1)
	defer func() {
		for _, s := range servers {
			s.Close()
		}
	}()
	configs := map[string]*Config{}
	var group sync.WaitGroup
	for d := range devices {
		name := fmt.Sprint("device", d)
		random := rand.New(rand.NewPCG(uint64(d), 1))
		_, cfg := w.device(t, name, func(c *Config) {
			c.Syntax = []syncml.Syntax{syntaxes["xml"], syntaxes["wbxml"]}[d%2]
			c.MaxMsgSize = []int{0, 1500, 3000}[d%3]
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Account = accounts[[]string{"certificate", "md5", "hmac", "md5 both"}[d%4]]()
			c.Client = &http.Client{Transport: withCertificate{name}, Jar: jar}
		})
		for i := range rounds {
			w.Put(name,
				exec(fmt.Sprint("once", i), wipe, fmt.Sprint("once", i)),
				sessiontest.Task(fmt.Sprint("set", i), session.Idempotent, "./Settings/A", fmt.Sprint(i)),
				session.Task{
					ID: fmt.Sprint("ask", i), Semantics: session.Queryable, Query: &session.Query{URI: fmt.Sprint("./Settings/Q", i)},
					Command: &syncml.Op{Verb: syncml.Add, Items: []syncml.Item{{Target: syncml.Location{URI: fmt.Sprint("./Settings/Q", i)}, Data: []byte("x")}}},
				},
			)
		}
		group.Go(func() {
			for round := range rounds + 2 {
				run := *cfg
				mu.RLock()
				run.URL = servers[random.IntN(2)].URL
				mu.RUnlock()
				run.FirstSession = 1 + random.IntN(3)
				if round < rounds {
					run.Faults = trouble(random)
				}
				// Errors are what this is about; what they led to is judged below.
				_, err := New(run).Session(t.Context())
				if round >= rounds && err != nil && !errors.Is(err, ErrStatus) {
					t.Logf("%s, without faults of its own: %v", name, err)
				}
				if d == 0 && round < rounds {
					raise(round % 2)
				}
			}
		})
		configs[name] = cfg
	}
	group.Wait()
	// Whoever was with a server that went away comes once more.
	for name, cfg := range configs {
		for range 2 {
			again := *cfg
			again.URL, again.FirstSession = servers[0].URL, 9
			if _, err := New(again).Session(t.Context()); err != nil {
				t.Errorf("%s, when all is well: %v", name, err)
			}
		}
		judge(t, w, name, cfg, rounds)
	}
}

// trouble that a device has in one session.
func trouble(random *rand.Rand) Faults {
	var f Faults
	switch random.IntN(6) {
	case 0:
		f.CrashAfter = wipe
	case 1:
		f.VanishAfter = 1 + random.IntN(3)
	case 2:
		f.Repeat = true
	case 3:
		f.AbortAfter = 1 + random.IntN(2)
	case 4:
		f.Fail = map[string]int{"./Settings/A": 500}
	}
	return f
}

func judge(t *testing.T, w *world, name string, cfg *Config, rounds int) {
	entries, err := ReadJournal(cfg.Journal.file.Name())
	if err != nil {
		t.Error(err)
		return
	}
	ran := map[string]int{}
	for _, e := range entries {
		if e.URI == wipe {
			ran[e.Data]++
		}
	}
	for i := range rounds {
		id := fmt.Sprint("once", i)
		o, claims := w.Outcome(name, id)
		switch {
		case claims > 1 || ran[id] > 1:
			t.Errorf("%s: %s was sent %d times and ran %d times", name, id, claims, ran[id])
		case o == nil:
			t.Errorf("%s: %s is stuck after %d claims", name, id, claims)
		case o.State == session.Answered && o.Code == 200 && ran[id] != 1:
			t.Errorf("%s: %s is said to have run, and ran %d times", name, id, ran[id])
		}
		for _, kind := range []string{"set", "ask"} {
			if o, claims := w.Outcome(name, fmt.Sprint(kind, i)); o == nil {
				t.Errorf("%s: %s%d is stuck after %d claims", name, kind, i, claims)
			}
		}
		u := tree.URI{Path: []string{"Settings", fmt.Sprint("Q", i)}}
		if _, code := cfg.Tree.Get("test", u, time.Time{}); code != syncml.StatusOK {
			t.Errorf("%s: %s isn't there: %d", name, u, code)
		}
	}
}
