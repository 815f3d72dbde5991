package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

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
	draining, built := g.draining, *g.built
	g.mu.Unlock()
	if draining || g.state() == "stopping" {
		return nil, errDraining
	}
	closed := *built.IKE
	closed.RedirectTo, closed.Drained = how.To, true
	built.IKE = &closed
	if err := g.sessions.Update(settings(&built, g.backend.Features(), g.tickets.Ring())); err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	g.logger.Info("gateway is being drained", slog.Duration("over", how.Drain), slog.String("to", how.To))
	go g.drain(how)
	return g.steps.follow(), nil
}

// batch of sessions that were asked at the same time.
type batch struct {
	ids map[lease.SessionID]bool
	at  time.Time
}

func (b batch) in(i session.Info) bool { return b.ids[i.ID] }

// drain asks the sessions to go, at even distances, and ends the gateway.
func (g *gateway) drain(how local.Stop) {
	defer g.stop()
	left := g.sessions.Sessions()
	rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	began, all := time.Now(), len(left)
	var leaving []batch
	told := -1
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for {
		now := time.Now()
		// So many should have been asked by now; the last ones leave in time.
		over := max(how.Drain-leaveTime, drainStep)
		asked := int(float64(all) * min(1, float64(now.Sub(began)+drainStep)/float64(over)))
		if n := asked - (all - len(left)); n > 0 {
			b := batch{ids: make(map[lease.SessionID]bool, n), at: now}
			for _, s := range left[:n] {
				b.ids[s.ID] = true
			}
			left = left[n:]
			if how.To != "" {
				g.sessions.Redirect(b.in, how.To)
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
		if share := int(drainTold * now.Sub(began) / how.Drain); share > told {
			told = share
			g.steps.tell(local.Progress{Step: "draining", Sessions: up})
		}
		if len(left) == 0 && len(leaving) == 0 || up == 0 {
			return
		}
		select {
		case <-g.stopping:
			return
		case <-tick.C:
		}
	}
}
