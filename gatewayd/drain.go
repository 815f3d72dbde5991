package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// Draining: the gateway ends, but its sessions one after the other, so that
// their devices arrive elsewhere one after the other.

const (
	maxDrain = 24 * time.Hour
	// drainStep is how often some sessions are asked to go.
	drainStep = 200 * time.Millisecond
	// leaveTime is how long a device that was sent away may take to go; one that
	// doesn't know redirection takes it all.
	leaveTime = 5 * time.Second
	// drainTold is how many times the progress is told, at most.
	drainTold = 20
)

var errDraining = fmt.Errorf("%w: the gateway is being drained", local.ErrConflict)

// Stop ends the gateway, at once or drained; at once also if it is being drained
// already.
func (g *gateway) Stop(how local.Stop) (<-chan local.Progress, error) {
	if how.Drain == 0 {
		g.stop()
		return g.steps.follow(), nil
	}
	switch {
	case how.Drain < 0 || how.Drain > maxDrain:
		return nil, fmt.Errorf("got %v, expected up to %v to drain in", how.Drain, maxDrain)
	case how.To != "" && !config.IsGateway(how.To):
		return nil, fmt.Errorf("got %q, expected a domain name or an IP address of another gateway", how.To)
	}
	// A reload would let devices in again.
	g.reload.Lock()
	defer g.reload.Unlock()
	g.mu.Lock()
	draining := g.draining
	g.mu.Unlock()
	if draining || g.state() == "stopping" {
		return nil, errDraining
	}
	if err := g.shutLocked(func() { g.draining, g.drain = true, gcm.Drain{On: true, To: how.To} }); err != nil {
		return nil, err
	}
	g.logger.Info("gateway is being drained", slog.Duration("over", how.Drain), slog.String("to", how.To))
	go func() {
		defer g.stop()
		told := -1
		began := time.Now()
		g.empty(nil, how.Drain, how.To, func(up int) {
			if share := int(drainTold * time.Since(began) / how.Drain); share > told {
				told = share
				g.steps.tell(local.Progress{Step: "draining", Sessions: up})
			}
		})
	}()
	return g.steps.follow(), nil
}

// shut or open the door to newcomers: what is changed says which.
func (g *gateway) shut(change func()) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	return g.shutLocked(change)
}

// shutLocked is shut for who has the turn to reload. With an error nothing has
// changed.
func (g *gateway) shutLocked(change func()) error {
	g.mu.Lock()
	door, built := g.door, g.built
	change()
	g.mu.Unlock()
	err := g.sessions.Update(g.settings(built))
	if err != nil {
		g.mu.Lock()
		g.door = door
		g.mu.Unlock()
	}
	return err
}

// batch of sessions that were asked at the same time.
type batch struct {
	ids map[lease.SessionID]bool
	at  time.Time
}

func (b batch) in(i session.Info) bool { return b.ids[i.ID] }

// empty asks the sessions that are up to go, at even distances in a time, to
// another gateway if there is one. It ends before if stop is closed, or with the
// gateway.
func (g *gateway) empty(stop <-chan struct{}, within time.Duration, to string, tell func(up int)) {
	left := g.sessions.Sessions()
	rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	began, all := time.Now(), len(left)
	var leaving []batch
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for {
		now := time.Now()
		// So many should have been asked by now; the last ones leave in time.
		over := max(within-leaveTime, drainStep)
		asked := int(float64(all) * min(1, float64(now.Sub(began)+drainStep)/float64(over)))
		if n := asked - (all - len(left)); n > 0 {
			b := batch{ids: make(map[lease.SessionID]bool, n), at: now}
			for _, s := range left[:n] {
				b.ids[s.ID] = true
			}
			left = left[n:]
			if to != "" {
				g.sessions.Redirect(b.in, to)
			} else {
				b.at = now.Add(-leaveTime)
			}
			leaving = append(leaving, b)
		}
		for len(leaving) > 0 && now.Sub(leaving[0].at) >= leaveTime {
			g.sessions.Kill(leaving[0].in)
			leaving = leaving[1:]
		}
		up := g.sessions.Stats().Established
		tell(up)
		if len(left) == 0 && len(leaving) == 0 || up == 0 {
			return
		}
		select {
		case <-g.stopping:
			return
		case <-stop:
			return
		case <-tick.C:
		}
	}
}
