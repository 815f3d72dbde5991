// Package life is what a fleet does all day: devices that come, move, sleep,
// wake up, ask something, go, or just vanish, each by its own clock.
//
// What lives here: the scenario and one device's life by it. What doesn't: the
// device (package device), results (package report).
package life

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/roamgate/roamgate/bench/device"
)

// Scenario says how often a device does what, as means of exponential
// distributions; 0 is never.
type Scenario struct {
	// Devices, and over how long they come first.
	Devices uint64        `yaml:"devices"`
	Arrive  time.Duration `yaml:"arrive"`
	// Roam to another port or address.
	Roam time.Duration `yaml:"roam"`
	// Sleep after so long, for Asleep.
	Sleep  time.Duration `yaml:"sleep"`
	Asleep time.Duration `yaml:"asleep"`
	// Leave in order, or Vanish without a word, and come back after Away.
	Leave  time.Duration `yaml:"leave"`
	Vanish time.Duration `yaml:"vanish"`
	Away   time.Duration `yaml:"away"`
	// Rekey the Child SA.
	Rekey time.Duration `yaml:"rekey"`
	// Ping Host through the tunnel.
	Ping time.Duration `yaml:"ping"`
	Host netip.Addr    `yaml:"host"`
}

// Read a scenario. Unknown keys are errors, with their line.
func Read(file string) (*Scenario, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s Scenario
	if err := yaml.UnmarshalWithOptions(text, &s, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &s, s.validate(file)
}

func (s *Scenario) validate(file string) error {
	for name, d := range map[string]time.Duration{
		"arrive": s.Arrive, "roam": s.Roam, "sleep": s.Sleep, "asleep": s.Asleep, "leave": s.Leave,
		"vanish": s.Vanish, "away": s.Away, "rekey": s.Rekey, "ping": s.Ping,
	} {
		if d < 0 {
			return fmt.Errorf("%s: %s: got %v, expected 0 or more", file, name, d)
		}
	}
	switch {
	case s.Devices == 0:
		return fmt.Errorf("%s: devices: expected at least 1", file)
	case s.Ping > 0 && !s.Host.Is4():
		return fmt.Errorf("%s: host: got %q, expected the IPv4 address to ping", file, s.Host)
	case s.Sleep > 0 && s.Asleep == 0:
		return fmt.Errorf("%s: asleep: expected how long they sleep", file)
	}
	return nil
}

// Event is what happened to a device.
type Event string

const (
	Connected Event = "connect"
	Moved     Event = "move"
	Slept     Event = "sleep"
	Pinged    Event = "ping"
	Rekeyed   Event = "rekey"
	Left      Event = "leave"
	Vanished  Event = "vanish"
)

// World is what lives need.
type World struct {
	*Scenario
	// Device makes the device of a number, Listen a socket for it to move to.
	Device func(number uint64) (*device.Device, error)
	Listen func() (device.Socket, error)
	// Timeout of whatever needs an answer.
	Timeout time.Duration
	Seed    uint64
	// Tell is called from many goroutines: how long an event took, or why it
	// failed.
	Tell func(e Event, took time.Duration, err error)
}

// errEnded: the gateway ended the session.
var errEnded = errors.New("the gateway ended the session")

// Live one device's life until ctx ends.
func (w *World) Live(ctx context.Context, number uint64) {
	rng := rand.New(rand.NewPCG(w.Seed, number))
	if !wait(ctx, time.Duration(rng.Float64()*float64(w.Arrive))) {
		return
	}
	for ctx.Err() == nil {
		d, err := w.connect(ctx, number)
		if err != nil {
			if !wait(ctx, mean(rng, max(w.Away, time.Second))) {
				return
			}
			continue
		}
		w.awake(ctx, rng, d)
		if !wait(ctx, mean(rng, w.Away)) {
			return
		}
	}
}

func (w *World) connect(ctx context.Context, number uint64) (*device.Device, error) {
	d, err := w.Device(number)
	if err != nil {
		w.Tell(Connected, 0, err)
		return nil, err
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	if _, err = d.Connect(bounded); err != nil {
		d.Vanish()
	}
	if ctx.Err() == nil {
		w.Tell(Connected, time.Since(began), err)
	}
	return d, err
}

// awake is one session, from when it stands until it ends.
func (w *World) awake(ctx context.Context, rng *rand.Rand, d *device.Device) {
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Timeout)
		defer cancel()
		_ = d.Close(bounded) // it vanishes then
	}()
	deeds := []struct {
		event Event
		every time.Duration
		do    func(context.Context) error
	}{
		{Moved, w.Roam, func(ctx context.Context) error { return w.move(ctx, d) }},
		// It may sleep longer than any answer may take: bounded by the life.
		{Slept, w.Sleep, func(context.Context) error { return w.sleep(ctx, d, mean(rng, w.Asleep)) }},
		{Pinged, w.Ping, func(ctx context.Context) error {
			_, err := d.Ping(ctx, w.Host, make([]byte, 56))
			return err
		}},
		{Rekeyed, w.Rekey, func(ctx context.Context) error { return w.rekey(ctx, d) }},
		{Left, w.Leave, d.Close},
		{Vanished, w.Vanish, func(context.Context) error { d.Vanish(); return nil }},
	}
	due := make([]time.Time, len(deeds))
	for i, deed := range deeds {
		if deed.every > 0 {
			due[i] = time.Now().Add(mean(rng, deed.every))
		}
	}
	for {
		next := -1
		for i := range due {
			if !due[i].IsZero() && (next < 0 || due[i].Before(due[next])) {
				next = i
			}
		}
		if next < 0 {
			<-ctx.Done() // it does nothing but be there
			return
		}
		if !wait(ctx, time.Until(due[next])) {
			return
		}
		if d.Info().State == device.Ended {
			w.Tell(deeds[next].event, 0, errEnded)
			return
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, w.Timeout)
		err := deeds[next].do(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.Tell(deeds[next].event, time.Since(began), err)
		if e := deeds[next].event; e == Left || e == Vanished {
			return
		}
		due[next] = time.Now().Add(mean(rng, deeds[next].every))
	}
}

func (w *World) move(ctx context.Context, d *device.Device) error {
	s, err := w.Listen()
	if err != nil {
		return err
	}
	before := d.Info()
	if err := d.Roam(s); err != nil {
		if errors.Is(err, device.ErrState) || errors.Is(err, device.ErrGone) {
			s.Close()
		}
		return err
	}
	return await(ctx, d, func(i device.Info) bool { return i.Moves > before.Moves })
}

func (w *World) rekey(ctx context.Context, d *device.Device) error {
	before := d.Info()
	if err := d.RekeyChild(); err != nil {
		return err
	}
	return await(ctx, d, func(i device.Info) bool { return i.ChildSAs > before.ChildSAs })
}

func (w *World) sleep(ctx context.Context, d *device.Device, long time.Duration) error {
	if err := d.Sleep(); err != nil {
		return err
	}
	if !wait(ctx, long) {
		return ctx.Err()
	}
	return d.Wake()
}

func await(ctx context.Context, d *device.Device, done func(device.Info) bool) error {
	info, err := d.Await(ctx, func(i device.Info) bool { return done(i) || i.State == device.Ended })
	if err == nil && !done(info) {
		return errEnded
	}
	return err
}

// mean draws from an exponential distribution.
func mean(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.ExpFloat64() * float64(d))
}

// wait is false if ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
