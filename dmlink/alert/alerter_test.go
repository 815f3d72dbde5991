package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet has the tasks and secrets, and is the channel "tunnel": it does as it is told and
// writes down what it was given and when.
type fleet struct {
	mu      sync.Mutex
	began   time.Time
	results map[string]Result // Sent if nothing is said
	looks   map[string]error  // what Look says; nil if nothing is said
	during  func(device string)
	log     map[string][]delivery
	now     int // deliveries at this moment, and the most there were
	most    int
	takes   time.Duration
}

type delivery struct {
	at      time.Duration
	session uint16
	resync  bool
}

func newFleet() *fleet {
	return &fleet{began: time.Now(), results: map[string]Result{}, looks: map[string]error{}, log: map[string][]delivery{}}
}

func (f *fleet) Look(_ context.Context, device string) (Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Secret{Server: "srv", Password: []byte("of " + device), Nonce: []byte("nonce")}, f.looks[device]
}

// look sets what Look says.
func (f *fleet) look(device string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks[device] = err
}

func (f *fleet) Name() string { return "tunnel" }

func (f *fleet) Deliver(ctx context.Context, device string, octets []byte) Result {
	f.mu.Lock()
	f.now++
	f.most = max(f.most, f.now)
	takes, during := f.takes, f.during
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	if during != nil {
		during(device)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now--
	r, told := f.results[device]
	if !told {
		r = Sent
	}
	n, err := Parse(octets)
	if err != nil {
		panic(err)
	}
	resync, err := Verify(octets, []byte("of "+device), []byte("nonce"))
	if err != nil {
		panic(err)
	}
	if r == Sent {
		f.log[device] = append(f.log[device], delivery{time.Since(f.began), n.SessionID, resync})
	}
	return r
}

func (f *fleet) set(device string, r Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results[device] = r
}

func (f *fleet) of(device string) []delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log[device])
}

// times at which a device was told, since the fleet began.
func (f *fleet) times(device string) (at []time.Duration) {
	for _, d := range f.of(device) {
		at = append(at, d.at)
	}
	return at
}

// run an alerter in a bubble.
func run(t *testing.T, change func(*Config), story func(t *testing.T, a *Alerter, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		cfg := Config{Devices: f, Channels: []Channel{f}, Tries: 4, First: time.Second, Most: 3 * time.Second}
		if change != nil {
			change(&cfg)
		}
		a := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			a.Run(ctx)
			close(done)
		}()
		defer func() {
			cancel()
			<-done
		}()
		story(t, a, f)
	})
}

func wakeUp(t *testing.T, a *Alerter, device string) {
	t.Helper()
	if err := a.Wake(device); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func wantTimes(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told at %v, want %v", got, want)
	}
}

// An alert is repeated with a wait that grows, always for
// the same session, the last time with the retry nonce; then the device counts
// as silent, until somebody wants it again.
func TestTries(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		wakeUp(t, a, "phone")
		time.Sleep(time.Hour)
		wantTimes(t, f.times("phone"), 0, time.Second, 3*time.Second, 6*time.Second)
		told := f.of("phone")
		for i, d := range told {
			if d.session == 0 || d.session != told[0].session || d.resync != (i == 3) {
				t.Errorf("try %d: %+v", i, d)
			}
		}
		if s := a.Stats(); s.Silent != 1 || s.Sent != 4 {
			t.Errorf("%+v", s)
		}
		wakeUp(t, a, "phone")
		if told := f.of("phone"); len(told) != 5 || told[4].session != told[0].session {
			t.Errorf("a new task for a silent device: %+v", told)
		}
	})
}

// A task that comes while an older one waits for its next try doesn't wait for
// that, and tries keep their distance, however many tasks come.
func TestNewTaskIsToldSoon(t *testing.T) {
	run(t, func(c *Config) { c.First, c.Most = time.Minute, time.Hour }, func(t *testing.T, a *Alerter, f *fleet) {
		wakeUp(t, a, "phone")
		time.Sleep(20 * time.Second)
		for range 1000 {
			wakeUp(t, a, "phone")
		}
		time.Sleep(settle / 2)
		wakeUp(t, a, "phone")
		time.Sleep(50 * time.Second)
		wantTimes(t, f.times("phone"), 0, 20*time.Second, 20*time.Second+settle)
		told := f.of("phone")
		if told[0].session != told[2].session {
			t.Errorf("sessions of one wake: %+v", told)
		}
	})
}

// The device comes after the second try and fetches all: no third one. A task
// that comes later is another alert, of another session.
func TestContacted(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		wakeUp(t, a, "phone")
		time.Sleep(1500 * time.Millisecond)
		a.Contacted("phone")
		a.Contacted("stranger")
		f.look("phone", ErrNothing)
		time.Sleep(time.Hour)
		wantTimes(t, f.times("phone"), 0, time.Second)
		if s := a.Stats(); s != (Stats{Sent: 2, Done: 1}) {
			t.Errorf("%+v", s)
		}
		// 16 bits: one of several is another one.
		before := f.of("phone")[0].session
		other := false
		for range 8 {
			f.look("phone", nil)
			wakeUp(t, a, "phone")
			told := f.of("phone")
			other = other || told[len(told)-1].session != before
			a.Contacted("phone")
			f.look("phone", ErrNothing)
			time.Sleep(time.Minute)
		}
		if !other {
			t.Error("always the same SessionID")
		}
	})
}

// A session that takes its time: the device is left alone in it. A task that
// came when it ended and was left behind is another alert.
func TestLeftBehind(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		wakeUp(t, a, "phone")
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			a.Contacted("phone")
			wakeUp(t, a, "phone")
		}
		wantTimes(t, f.times("phone"), 0)
		time.Sleep(1500 * time.Millisecond)
		wantTimes(t, f.times("phone"), 0, 11*time.Second)
		if s := a.Stats(); s != (Stats{Waiting: 1, Sent: 2}) {
			t.Errorf("%+v", s)
		}
	})
}

// A device that no channel reaches costs nothing until it connects; what is
// wanted of it meanwhile makes no attempt.
func TestAway(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.set("phone", Unreachable)
		for range 10 {
			wakeUp(t, a, "phone")
		}
		time.Sleep(24 * time.Hour)
		wantTimes(t, f.times("phone"))
		if s := a.Stats(); s != (Stats{Away: 1}) {
			t.Errorf("%+v", s)
		}
		f.set("phone", Sent)
		a.Connected("phone")
		time.Sleep(500 * time.Millisecond)
		// Connections that come and go don't make it more.
		a.Connected("phone")
		a.Connected("phone")
		synctest.Wait()
		wantTimes(t, f.times("phone"), 24*time.Hour)
		a.Forget("phone")
		time.Sleep(time.Hour)
		wantTimes(t, f.times("phone"), 24*time.Hour)
		a.Connected("phone")
		a.Connected("stranger")
		synctest.Wait()
		if s := a.Stats(); s != (Stats{Sent: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// It connects in the moment in which the channel says that it isn't there.
func TestConnectsMeanwhile(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.set("phone", Unreachable)
		var once sync.Once
		f.during = func(string) {
			once.Do(func() { a.Connected("phone") })
		}
		f.takes = time.Second
		wakeUp(t, a, "phone")
		time.Sleep(1500 * time.Millisecond)
		f.set("phone", Sent)
		time.Sleep(time.Second)
		wantTimes(t, f.times("phone"), 2*time.Second)
	})
}

// It comes while it is told: it is left alone then, and nothing of it stays.
func TestComesMeanwhile(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.takes = time.Second
		wakeUp(t, a, "phone")
		a.Contacted("phone")
		f.look("phone", ErrNothing)
		time.Sleep(time.Minute)
		wantTimes(t, f.times("phone"), time.Second)
		if s := a.Stats(); s != (Stats{Sent: 1, Done: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// It is forgotten while it is told, and wanted again: that is an alert of its
// own, and the old one changes nothing about it.
func TestForgottenMeanwhile(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.takes = time.Second
		wakeUp(t, a, "phone")
		a.Forget("phone")
		wakeUp(t, a, "phone")
		time.Sleep(1500 * time.Millisecond)
		if told := f.of("phone"); len(told) != 2 {
			t.Errorf("%+v", told)
		}
		if s := a.Stats(); s != (Stats{Waiting: 1, Sent: 2}) {
			t.Errorf("%+v", s)
		}
	})
}

// slow looks: whoever asks gets what was so a second ago.
type slow struct {
	*fleet
}

func (s slow) Look(ctx context.Context, device string) (Secret, error) {
	secret, err := s.fleet.Look(ctx, device)
	time.Sleep(time.Second)
	return secret, err
}

// A task comes after the look that found nothing, and before that is known.
func TestTaskMeanwhile(t *testing.T) {
	run(t, func(c *Config) { c.Devices = slow{c.Devices.(*fleet)} }, func(t *testing.T, a *Alerter, f *fleet) {
		f.look("phone", ErrNothing)
		wakeUp(t, a, "phone")
		f.look("phone", nil)
		wakeUp(t, a, "phone")
		time.Sleep(2500 * time.Millisecond)
		wantTimes(t, f.times("phone"), 2*time.Second)
	})
}

// A channel that is away takes no try from the device, and is asked less and
// less often.
func TestFailing(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.set("phone", Failed)
		wakeUp(t, a, "phone")
		time.Sleep(59500 * time.Millisecond)
		// At 0, 1, 3 and from then on every three seconds.
		if s := a.Stats(); s != (Stats{Waiting: 1, Failed: 21}) {
			t.Errorf("%+v", s)
		}
		f.set("phone", Sent)
		a.Connected("phone")
		time.Sleep(time.Hour)
		const at = 59500 * time.Millisecond
		wantTimes(t, f.times("phone"), at, at+time.Second, at+3*time.Second, at+6*time.Second)
	})
}

// other is a second channel.
type other struct{ *fleet }

func (other) Name() string { return "sms" }

// The tunnel first; what it can't, the next one does.
func TestChannels(t *testing.T) {
	var sms *fleet
	run(t, func(c *Config) {
		sms = newFleet()
		c.Channels = append(c.Channels, other{sms})
	}, func(t *testing.T, a *Alerter, f *fleet) {
		f.set("away", Unreachable)
		f.set("cut", Failed)
		f.set("nowhere", Unreachable)
		sms.set("nowhere", Unreachable)
		f.set("stuck", Failed)
		sms.set("stuck", Unreachable)
		for _, device := range []string{"here", "away", "cut", "nowhere", "stuck"} {
			wakeUp(t, a, device)
		}
		for device, want := range map[string][2]int{"here": {1, 0}, "away": {0, 1}, "cut": {0, 1}, "nowhere": {0, 0}, "stuck": {0, 0}} {
			if got := [2]int{len(f.of(device)), len(sms.of(device))}; got != want {
				t.Errorf("%s: by tunnel and SMS %v, want %v", device, got, want)
			}
		}
		if s := a.Stats(); s != (Stats{Waiting: 4, Away: 1, Sent: 3, Failed: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// A device that can't be alerted isn't tried again; a database that is away is
// asked again, and takes no try from the device.
func TestLook(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, f *fleet) {
		f.look("phone", ErrNoSecret)
		wakeUp(t, a, "phone")
		time.Sleep(time.Hour)
		if s := a.Stats(); s != (Stats{NoSecret: 1}) {
			t.Errorf("%+v", s)
		}
		f.look("phone", errors.New("database is away"))
		wakeUp(t, a, "phone")
		time.Sleep(time.Minute)
		f.look("phone", nil)
		time.Sleep(time.Hour)
		if got := f.times("phone"); len(got) != 4 {
			t.Errorf("told at %v", got)
		}
	})
}

// A fleet of which nobody answers: the table is bounded, and so is how many are
// told at a time; everybody is told as often as he should be.
func TestSilentFleet(t *testing.T) {
	const devices, workers = 2000, 7
	run(t, func(c *Config) { c.MaxDevices, c.Workers = devices, workers }, func(t *testing.T, a *Alerter, f *fleet) {
		f.takes = 10 * time.Millisecond
		for n := range devices {
			if err := a.Wake(fmt.Sprint("phone", n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Wake("one more"); !errors.Is(err, ErrFull) {
			t.Errorf("one more: %v", err)
		}
		if err := a.Wake("phone0"); err != nil {
			t.Errorf("one that is there: %v", err)
		}
		time.Sleep(time.Hour)
		for n := range devices {
			if got := f.times(fmt.Sprint("phone", n)); len(got) != 4 {
				t.Fatalf("phone%d was told at %v", n, got)
			}
		}
		synctest.Wait()
		if f.most != workers {
			t.Errorf("%d at a time, want %d", f.most, workers)
		}
		if s := a.Stats(); s != (Stats{Silent: devices, Sent: 4 * devices, Refused: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// Run ends when its deliveries have.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		f.takes = time.Hour
		a := New(Config{Devices: f, Channels: []Channel{f}})
		ctx, cancel := context.WithCancel(t.Context())
		done := false
		go func() {
			a.Run(ctx)
			done = true
		}()
		wakeUp(t, a, "phone")
		if f.now != 1 || done {
			t.Fatalf("%d deliveries, done %t", f.now, done)
		}
		cancel()
		synctest.Wait()
		if f.now != 0 || !done {
			t.Errorf("%d deliveries are left, done %t", f.now, done)
		}
	})
}
