package management

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/postgres"
)

// storm is a world with gateways, in which much happens while everything dies.
type storm struct {
	w        *world
	dir      string
	sealed   *store.SQL
	key      []byte
	manager  *client.Client
	outposts []*outpost
	roamers  []*roamer

	mu           sync.Mutex
	acknowledged []operation
	doomed       map[string]bool
	placed       int
}

// size of a storm.
type size struct {
	devices, kills int
	every          time.Duration
}

// Devices enroll, roam between two gateways, are locked, wiped, revoked and closed
// while manager, gateways and PostgreSQL are killed in turn; then one judge reads
// all sides.
//
//	dev1 (devices, simulated) -- gw1 --\
//	                                    manager,enrollment -- PostgreSQL
//	dev1 (devices, simulated) -- gw2 --/
func TestStorm(t *testing.T) { brew(t, size{devices: 16, kills: 12, every: 1500 * time.Millisecond}) }

// As TestStorm, for longer.
func TestSoakStorm(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("ROAMGATE_SOAK isn't set")
	}
	brew(t, size{devices: 60, kills: 120, every: 3 * time.Second})
}

func brew(t *testing.T, n size) {
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs root and network namespaces: run `make test`, or set " + netns.IntegrationEnv + "=1")
	}
	db := postgres.Start(t)
	w := newWorld(t, db.Name(db.Create(t)))
	servers := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	s := newStorm(w)
	for range n.devices {
		s.invite()
	}

	ctx := t.Context()
	settle := make(chan struct{})
	s.live(time.Duration(n.kills)*n.every/2, settle)
	over := make(chan struct{})
	var administrators sync.WaitGroup
	for range 2 {
		administrators.Go(func() { s.administer(ctx, over) })
	}

	killed := []func(){
		func() { servers.kill(); servers.start() },
		func() { s.outposts[0].Kill(); s.outposts[0].start() },
		func() { db.KillHard(); db.Start() },
		func() { s.outposts[1].Kill(); s.outposts[1].start() },
	}
	for i := range n.kills {
		time.Sleep(n.every)
		killed[i%len(killed)]()
	}
	close(over)
	administrators.Wait()
	close(settle)
	s.calm(ctx)
	s.last(ctx)
	lied(t, s.verdict(ctx))
}

// A device executes its wipe, and the answer gets lost with the session, as one
// does whose manager or database dies under it. Nobody asks the device again, so
// it stays open until somebody decides what that means, and is out for good then.
func TestWipeWhoseAnswerIsLost(t *testing.T) {
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs root and network namespaces: run `make test`, or set " + netns.IntegrationEnv + "=1")
	}
	db := postgres.Start(t)
	w := newWorld(t, db.Name(db.Create(t)))
	w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	s := newStormOf(w, 1, "")
	s.invite()
	r := s.roamers[0]
	r.faults.CrashAfter = wipeNode
	settle := make(chan struct{})
	close(settle)
	s.live(0, settle)
	ctx := t.Context()
	w.until("it is connected", func() bool { return r.enrolled() != nil && r.connected(ctx) })
	s.doomed[r.name] = true
	s.insist(ctx, operation{Kind: "wipe", Task: "wipe-1", Device: r.name})
	s.calm(ctx)
	e := s.verdict(ctx)
	if c := e.Commands[slices.IndexFunc(e.Commands, func(c commandEvidence) bool { return c.Task == "wipe-1" })]; c.State != "unknown" {
		t.Errorf("the wipe is %s", c.State)
	}
	if n := e.Devices[r.name].Wiped; n != 1 {
		t.Errorf("wiped %d times", n)
	}
}

// newStorm over a world that runs: gateways join, and know what devices may.
func newStorm(w *world) *storm { return newStormOf(w, 2, "") }

// newStormOf so many gateways, with more in their section of management.
func newStormOf(w *world, gateways int, more string) *storm {
	t := w.t
	t.Helper()
	own, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "admin.pem"), filepath.Join(w.dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := client.New(client.Config{Server: "https://" + w.port(portDMAdmin), Roots: w.root, Certificate: &own})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	s := &storm{w: w, dir: t.TempDir(), manager: m, doomed: map[string]bool{}, key: w.read("manager/seal.key")}
	if s.sealed, err = store.New(t.Context(), w.db, store.Options{SealKey: s.key}); err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf("pools: [{prefix: %s}]\nexclude: [%s]\ngroups: {sales: {}, quarantine: {closed: true}}\nsettings: {static.networks: [%s, %s/32]}\n",
		stormPool, alertFrom, netns.Inside, alertFrom)
	_, err = client.Call(t.Context(), m, api.GatewayImport, &api.SetContent{Body: api.GatewayContent{YAML: content}})
	w.must("", err)
	for n := range gateways {
		s.outposts = append(s.outposts, w.outpost(m, n+1, more))
	}
	return s
}

// invite another device.
func (s *storm) invite() {
	name := fmt.Sprintf("phone-%03d", len(s.roamers))
	made, err := s.w.admins.CreateRequest(s.w.t.Context(), admin.NewRequest{User: "user-" + name, Device: name, Groups: []string{"sales"}})
	s.w.must("", err)
	s.roamers = append(s.roamers, newRoamer(s, name, made.Code))
}

// live: the devices enroll one after the other within a time, come to be managed,
// and roam until settle, until the test ends.
func (s *storm) live(within time.Duration, settle <-chan struct{}) {
	ctx, end := context.WithCancel(s.w.t.Context())
	var lives sync.WaitGroup
	s.w.t.Cleanup(func() { end(); lives.Wait() })
	for i, r := range s.roamers {
		lives.Go(func() {
			pause(ctx, time.Duration(i)*within/time.Duration(len(s.roamers)))
			if r.join(ctx); r.enrolled() == nil {
				return
			}
			lives.Go(func() { r.manage(ctx) })
			r.roam(ctx, settle)
			r.vanish()
		})
	}
}

// administer devices at random until over.
func (s *storm) administer(ctx context.Context, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(rand.IntN(60)) * time.Millisecond):
		}
		r := s.roamers[rand.IntN(len(s.roamers))]
		if r.enrolled() == nil {
			continue
		}
		o, ok := s.choose(r.name)
		if !ok {
			continue
		}
		s.insist(ctx, o)
	}
}

// choose what becomes of a device. A quarter of them come to an end, one each time.
func (s *storm) choose(device string) (operation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doomed[device] {
		return operation{}, false
	}
	s.placed++
	kind := [...]string{"ring", "ring", "set", "query"}[rand.IntN(4)]
	if 4*len(s.doomed) < len(s.roamers) && rand.IntN(15) == 0 {
		s.doomed[device] = true
		kind = [...]string{"wipe", "revoke", "close"}[len(s.doomed)%3]
	}
	o := operation{Kind: kind, Device: device}
	if kind != "revoke" && kind != "close" {
		o.Task = fmt.Sprintf("%s-%d", kind, s.placed)
	}
	return o, true
}

// insist on an operation until it is acknowledged, or refused for good: an answer
// that got lost doesn't mean that nothing was done.
func (s *storm) insist(ctx context.Context, o operation) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := s.try(ctx, o)
		if err == nil && rand.IntN(4) == 0 {
			err = s.try(ctx, o) // as if the answer had been lost
		}
		done, known := err == nil, err == nil
		if conflicts(err) {
			done, known = s.done(ctx, o)
		}
		switch {
		case done:
			s.mu.Lock()
			s.acknowledged = append(s.acknowledged, o)
			s.mu.Unlock()
			return
		case known:
			s.w.t.Logf("%v was refused: %v", o, err)
			return
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			s.w.t.Errorf("in vain: %v: %v", o, err)
			return
		}
	}
}

// conflicts says whether an operation was refused because of what is so already.
func conflicts(err error) bool {
	var dm *api.Problem
	var enrollment *admin.Problem
	return errors.As(err, &dm) && dm.Status == http.StatusConflict || errors.As(err, &enrollment) && enrollment.Status == http.StatusConflict
}

// done says whether an operation that conflicts was carried out at an earlier try,
// if that is known. Nobody else closes this device or places this task; but a task
// for a device that was closed meanwhile isn't placed.
func (s *storm) done(ctx context.Context, o operation) (done, known bool) {
	if o.Task == "" {
		return true, true
	}
	_, err := client.Call(ctx, s.manager, api.TaskShow, &api.OneTask{Task: o.Task})
	var p *api.Problem
	return err == nil, err == nil || errors.As(err, &p) && p.Status == http.StatusNotFound
}

func (s *storm) try(ctx context.Context, o operation) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	place := func(kind string, values map[string]string) error {
		row, ok := api.TaskPlace(kind)
		if !ok {
			return errors.New("no such type")
		}
		_, err := client.Call(ctx, s.manager, row, &api.PlaceTask{Body: api.NewTask{ID: o.Task, Target: api.Target{Device: o.Device}, Values: values}})
		return err
	}
	switch o.Kind {
	case "ring":
		return place("exec", map[string]string{"uri": ringNode, "value": o.Task})
	case "set":
		return place("replace", map[string]string{"uri": setNode, "value": o.Task})
	case "query":
		return place("query", map[string]string{"uri": setNode})
	case "wipe":
		return place("wipe", nil)
	case "close":
		_, err := s.w.admins.CloseDevice(ctx, o.Device, "cessation-of-operation")
		return err
	default:
		serial := ca.SerialString(s.roamer(o.Device).enrolled().Certificate.SerialNumber)
		_, err := s.w.admins.Revoke(ctx, serial, "key-compromise")
		return err
	}
}

func (s *storm) roamer(name string) *roamer {
	return s.roamers[slices.IndexFunc(s.roamers, func(r *roamer) bool { return r.name == name })]
}

// calm: all that is open is connected, and is woken out of the tunnel once more,
// now that nobody polls.
func (s *storm) calm(ctx context.Context) {
	w, t := s.w, s.w.t
	w.until("all have enrolled", func() bool {
		return !slices.ContainsFunc(s.roamers, func(r *roamer) bool { return r.enrolled() == nil })
	})
	var before findings
	w.until("peace", func() bool {
		pause(ctx, time.Second) // to look is work, too
		s.decide(ctx)
		e, err := s.evidence(ctx)
		if err != nil {
			before = findings{err.Error()}
			return false
		}
		// That nobody has tried to come back yet is as it should be.
		before = slices.DeleteFunc(judge(e), func(f string) bool { return strings.Contains(f, "hasn't tried") })
		return len(before) == 0
	}, func() string { return strings.Join(before, "\n") + s.ending(t.Context()) + s.told(t.Context()) })
	last := map[string]operation{}
	for _, r := range s.roamers {
		if s.doomed[r.name] {
			continue
		}
		r.polls.Store(false)
		w.until("the secret of notifications", func() bool {
			return s.sealed.PutAccount(ctx, r.name, session.Account{
				Scheme: session.Certificate, ServerName: "Roamgate", ServerPassword: []byte("of " + r.name), ServerNonce: []byte("nonce"),
			}) == nil
		})
		s.mu.Lock()
		s.placed++
		last[r.name] = operation{"ring", fmt.Sprintf("ring-%d", s.placed), r.name}
		s.mu.Unlock()
		s.insist(ctx, last[r.name])
	}
	for name, o := range last {
		w.until(name+" is woken", func() bool {
			return s.roamer(name).wakings.Load() > 0 && s.roamer(name).evidence(ctx).Executed[o.Task] > 0
		})
	}
	n := map[string]int{}
	for _, o := range s.acknowledged {
		n[o.Kind]++
	}
	t.Logf("acknowledged: %v", n)
}

// decide what is left to administrators: a wipe is sent once, so if the session
// died before its answer was recorded, nobody knows whether it was done, and the
// device stays open until the wipe expires or somebody closes it. This one does.
func (s *storm) decide(ctx context.Context) {
	s.mu.Lock()
	e := evidence{Acknowledged: slices.Clone(s.acknowledged)}
	s.mu.Unlock()
	shut := e.shut()
	for _, o := range e.Acknowledged {
		if o.Kind != "wipe" || shut[o.Device] != "wipe" {
			continue
		}
		page, err := client.Call(ctx, s.manager, api.TaskCommands, &api.TaskCommandsOf{OneTask: api.OneTask{Task: o.Task}})
		if err == nil && slices.ContainsFunc(page.Items, func(c api.Command) bool { return c.State == string(store.Unknown) }) {
			s.w.t.Logf("nobody knows whether %s was wiped: it is closed", o.Device)
			s.insist(ctx, operation{Kind: "close", Device: o.Device})
		}
	}
}

// last are a device that is wiped by a command that wakes it, and one that is
// revoked, both while they are connected and have a ticket that was never shown.
func (s *storm) last(ctx context.Context) {
	w, kinds := s.w, []string{"wipe", "revoke"}
	for _, r := range s.roamers {
		if s.doomed[r.name] || len(kinds) == 0 {
			continue
		}
		s.mu.Lock()
		s.doomed[r.name] = true
		s.placed++
		o := operation{Kind: kinds[0], Device: r.name}
		if o.Kind == "wipe" {
			o.Task = fmt.Sprintf("wipe-%d", s.placed)
		}
		s.mu.Unlock()
		kinds = kinds[1:]
		w.until(r.name+" has a ticket", func() bool { return r.ticketed() })
		s.insist(ctx, o)
		// Gateways and device management hear of it side by side: that it's cut
		// doesn't mean yet that its next session of management is refused.
		w.until(r.name+" is cut, and its account closed", func() bool {
			v, err := s.sealed.Device(ctx, r.name)
			return err == nil && !v.Open && !r.connected(ctx)
		})
	}
	if len(kinds) > 0 {
		w.t.Errorf("nobody is left for %v", kinds)
	}
}

// verdict, once who was closed has tried to come back: the evidence that is sound,
// or it fails.
func (s *storm) verdict(ctx context.Context) *evidence {
	w := s.w
	attempts := map[string][]attempt{}
	for name := range s.doomed {
		attempts[name] = s.roamer(name).returns(ctx)
	}
	var e *evidence
	var f findings
	w.until("a sound world", func() bool {
		pause(ctx, time.Second)
		var err error
		if e, err = s.evidence(ctx); err != nil {
			f = findings{err.Error()}
			return false
		}
		for name, tried := range attempts {
			e.Devices[name].Attempts = tried
		}
		f = judge(e)
		return len(f) == 0
	}, func() string { return strings.Join(f, "\n") + s.ending(ctx) + s.told(ctx) })
	return e
}
