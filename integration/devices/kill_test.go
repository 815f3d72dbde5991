package devices

import (
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
	"github.com/roamgate/roamgate/dmlink/wbxml"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Servers, and the database, die in the middle of what they do, and devices too.
// No command is lost, no once-only command runs twice, none is stuck.
func TestKillSQLite(t *testing.T) { killSQLite(t, scale{devices: 40, rounds: 10, every: 40}) }

func TestKillPostgres(t *testing.T) { killPostgres(t, scale{devices: 40, rounds: 10, every: 40}) }

// Two servers share the load until one dies for good, with the sessions that it
// has and its address: the other one has all devices from then on.
func TestOneServerLeft(t *testing.T) {
	p := postgres.Start(t)
	s := newStorm(t, scale{devices: 40, rounds: 6, every: 100}, database.Postgres, p.Name(p.Create(t)), nil)
	s.victims = []func(){func() {
		if s.kills.Load() == 0 {
			s.nodes[0].kill()
			s.nodes[0].listener.Close()
		}
	}}
	s.run()
}

// The same with 10,000 sessions, or as many as ROAMGATE_SOAK_DM_SESSIONS says.
func TestSoakKillSQLite(t *testing.T) { killSQLite(t, soak(t)) }

func TestSoakKillPostgres(t *testing.T) { killPostgres(t, soak(t)) }

// scale: each device has a session a round at least, and with each `every` of
// them something is killed.
type scale struct{ devices, rounds, every int }

func soak(t *testing.T) scale {
	if os.Getenv("ROAMGATE_SOAK") != "1" {
		t.Skip("a long run: ROAMGATE_SOAK=1")
	}
	sessions := 10_000
	if text := os.Getenv("ROAMGATE_SOAK_DM_SESSIONS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		sessions = n
	}
	return scale{devices: max(1, sessions/10), rounds: 10, every: 250}
}

func killSQLite(t *testing.T, s scale) {
	path := filepath.Join(t.TempDir(), "dm.db")
	newStorm(t, s, database.SQLite, database.SQLiteName(path), nil).run()
}

func killPostgres(t *testing.T, s scale) {
	p := postgres.Start(t)
	newStorm(t, s, database.Postgres, p.Name(p.Create(t)), func() {
		p.KillHard()
		p.Start()
	}).run()
}

const wipe = "./Vendor/MSFT/RemoteWipe/doWipe"

type storm struct {
	scale
	t       *testing.T
	store   *store.SQL
	nodes   [2]*node
	victims []func()
	journal string
	lab     laboratory
	issuer  *identity.Issuer
	roots   *x509.CertPool

	sessions, troubled, kills atomic.Int64
	// stop ends the killing; killed is closed when it has.
	stop, killed chan struct{}
	wake         chan struct{}
}

func newStorm(t *testing.T, s scale, engine database.Engine, name string, crash func()) *storm {
	db, err := sql.Open(databasetest.Driver(engine), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	st := &storm{
		scale: s, t: t, store: storetest.Store(t, database.New(db, engine), nil), journal: filepath.Join(t.TempDir(), "journal"),
		stop: make(chan struct{}), killed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	st.lab = newLaboratory(t)
	st.issuer = st.lab.issuer(t, func(n uint64) string { return fmt.Sprint("device", n) })
	st.roots = st.lab.roots(t)
	for i := range st.nodes {
		st.nodes[i] = newNode(t, engine, name, st.lab)
		st.victims = append(st.victims, func() {
			st.nodes[i].kill()
			st.nodes[i].start()
		})
	}
	if crash != nil {
		st.victims = append(st.victims, crash)
	}
	return st
}

// killer kills in turn, by how many sessions there were, not by the clock.
func (s *storm) killer() {
	defer close(s.killed)
	for next := int64(s.every); ; next += int64(s.every) {
		for s.sessions.Load() < next {
			select {
			case <-s.wake:
			case <-s.stop:
				return
			}
		}
		s.victims[s.kills.Load()%int64(len(s.victims))]()
		s.kills.Add(1)
	}
}

// persist until it works: the database may be down.
func (s *storm) persist(what string, work func() error) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := work()
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			s.t.Errorf("%s: %v", what, err)
			return
		}
	}
}

func (s *storm) run() {
	journal, err := dm.OpenJournal(s.journal)
	if err != nil {
		s.t.Fatal(err)
	}
	defer journal.Close()
	go s.killer()
	devices := make([]*device, s.devices)
	for i := range devices {
		devices[i] = s.device(i, journal)
	}
	// Some at a time, as a server would have them.
	turn := make(chan struct{}, 16)
	var group sync.WaitGroup
	for round := range s.rounds {
		for _, d := range devices {
			turn <- struct{}{}
			group.Go(func() {
				defer func() { <-turn }()
				d.round(round)
			})
		}
		group.Wait() // a device has one session at a time
	}
	close(s.stop)
	<-s.killed
	for _, d := range devices {
		turn <- struct{}{}
		group.Go(func() {
			defer func() { <-turn }()
			d.settle()
		})
	}
	group.Wait()
	s.judge(devices)
	s.t.Logf("%d sessions, %d of them broke; %d kills", s.sessions.Load(), s.troubled.Load(), s.kills.Load())
	if s.kills.Load() < int64(len(s.victims)) {
		s.t.Errorf("%d kills: not everything was killed once", s.kills.Load())
	}
}

type device struct {
	*storm
	name   string
	random *rand.Rand
	cfg    dm.Config
	// put are the tasks by the data that their command carries.
	put []string
}

var syntaxes = []syncml.Syntax{syncml.XML, wbxml.WBXML}

func (s *storm) device(i int, journal *dm.Journal) *device {
	d := &device{storm: s, name: fmt.Sprint("device", i), random: rand.New(rand.NewPCG(uint64(i), 7))}
	s.persist("enrolling", func() error {
		return s.store.Enroll(s.t.Context(), store.Device{Name: d.name, Enrolled: time.Unix(1e9, 0)})
	})
	d.cfg = dm.Config{
		Device: d.name, Server: "roamgate", Syntax: syntaxes[i%2], MaxMsgSize: []int{0, 1500, 4000}[i%3],
		Client: client(s.t, s.roots, s.issuer, uint64(i)),
		Tree:   phone(d.name), Account: &dm.Account{Scheme: session.Certificate}, Journal: journal,
	}
	return d
}

func phone(name string) *tree.Tree {
	t := tree.New(tree.Limits{})
	now := time.Unix(1e9, 0)
	for uri, value := range map[string]string{"./DevInfo/DevId": name, "./DevInfo/Mod": "Simulated", "./Settings/A": "old"} {
		t.Put(uri, tree.Node{Value: tree.Value{Data: []byte(value)}}, now)
	}
	t.Put(wipe, tree.Node{Exec: func(time.Time, []byte) int { return syncml.StatusOK }}, now)
	return t
}

// round: three tasks, and a session in which something may go wrong.
func (d *device) round(round int) {
	for kind, k := range map[string]store.Task{
		"once": {Semantics: session.OnceOnly, Command: one(syncml.Exec, wipe, d.id("once", round))},
		"set":  {Semantics: session.Idempotent, Command: one(syncml.Replace, "./Settings/A", d.id("set", round))},
		"ask": {
			Semantics: session.Queryable, Command: one(syncml.Add, fmt.Sprint("./Settings/Q", round), d.id("ask", round)),
			Query: &session.Query{URI: fmt.Sprint("./Settings/Q", round), Want: []byte(d.id("ask", round))},
		},
	} {
		k.ID, k.Kind, k.By = d.id(kind, round), kind, "test"
		k.Created = time.Now()
		k.Expires = k.Created.Add(24 * time.Hour)
		d.persist("putting a task", func() error {
			_, _, err := d.store.Put(d.t.Context(), k, d.name)
			if errors.Is(err, store.ErrExists) {
				return nil // the try before had worked
			}
			return err
		})
		d.put = append(d.put, k.ID)
	}
	run := d.cfg
	switch d.random.IntN(6) {
	case 0:
		run.Faults.CrashAfter = wipe
	case 1:
		run.Faults.VanishAfter = 1 + d.random.IntN(3)
	case 2:
		run.Faults.Repeat = true
	case 3:
		run.Faults.AbortAfter = 1 + d.random.IntN(2)
	}
	_ = d.session(run)
}

func (d *device) id(kind string, round int) string { return fmt.Sprint(kind, "-", round, "-", d.name) }

func one(verb syncml.Verb, uri, data string) *syncml.Op {
	return &syncml.Op{Verb: verb, Items: []syncml.Item{{Target: syncml.Location{URI: uri}, Data: []byte(data), HasData: true}}}
}

func (d *device) session(run dm.Config) error {
	n := d.random.IntN(len(d.nodes))
	run.URL = d.nodes[n].url
	run.FirstSession = 1 + d.random.IntN(5)
	_, err := dm.New(run).Session(d.t.Context())
	if errors.Is(err, syscall.ECONNREFUSED) {
		run.URL = d.nodes[1-n].url // as with two addresses of one name
		_, err = dm.New(run).Session(d.t.Context())
	}
	run.Client.CloseIdleConnections() // each session has a connection of its own
	if err != nil {
		d.troubled.Add(1)
	}
	d.sessions.Add(1)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return err
}

// settle: nothing goes wrong any more. A server's connections to a database that
// was killed before may cost tries, one each.
func (d *device) settle() {
	var err error
	for range 20 {
		if err = d.session(d.cfg); err != nil {
			continue
		}
		var a session.Account
		if a, err = d.store.Account(d.t.Context(), d.name); err == nil && a.Idle {
			return
		}
	}
	d.t.Errorf("%s isn't done when all is well: %v", d.name, err)
}

// judge from the journals.
func (s *storm) judge(devices []*device) {
	entries, err := dm.ReadJournal(s.journal)
	if err != nil {
		s.t.Fatal(err)
	}
	ran := map[string]int{}
	for _, e := range entries {
		ran[e.Data]++
	}
	count := map[store.CommandState]int{}
	for _, d := range devices {
		commands := map[string]store.Command{}
		for before := int64(0); ; {
			all, err := s.store.CommandsOfDevice(s.t.Context(), d.name, before, 0)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(all) == 0 {
				break
			}
			for _, c := range all {
				commands[c.Task] = c
			}
			before = all[len(all)-1].ID
		}
		if len(commands) != len(d.put) {
			s.t.Errorf("%s: %d commands of %d tasks", d.name, len(commands), len(d.put))
		}
		for _, id := range d.put {
			c, ok := commands[id]
			count[c.State]++
			once := id[0] == 'o'
			switch {
			case !ok:
				s.t.Errorf("%s is lost", id)
			case c.State == store.Waiting:
				s.t.Errorf("%s is stuck after %d claims", id, c.Attempt)
			case once && (c.Attempt > 1 || ran[id] > 1):
				s.t.Errorf("%s was sent %d times and ran %d times", id, c.Attempt, ran[id])
			case c.State == store.Answered && c.Succeeded() && ran[id] == 0:
				s.t.Errorf("%s is said to have run, and didn't", id)
			case !once && !c.Succeeded() && ran[id] == 0:
				s.t.Errorf("%s ended %s %d, and didn't run", id, c.State, c.Code)
			}
		}
	}
	s.t.Logf("%d entries in journals; commands: %v", len(entries), count)
	if count[store.Unknown] == 0 || count[store.Answered] == 0 {
		s.t.Errorf("this storm proves nothing: %v", count)
	}
}
