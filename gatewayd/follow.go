package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/roamgate/roamgate/gatewayd/local"
)

// followSignals reloads at SIGHUP.
func (g *gateway) followSignals(hangup <-chan os.Signal, over <-chan struct{}, manager notify) {
	for {
		select {
		case <-over:
			return
		case <-hangup:
			manager.reloading()
			_, _ = g.Reload() // told by the log
			manager.ready()
		}
	}
}

// followEnd tells how the end goes, and cuts it short when it takes too long.
func (g *gateway) followEnd(ctx context.Context, over <-chan struct{}, manager notify) {
	select {
	case <-over:
		return
	case <-ctx.Done():
	}
	manager.stopping()
	g.logger.Info("gateway is stopping", slog.Int("sessions", g.sessions.Stats().Established))
	g.bound = time.AfterFunc(endBound, func() {
		g.logger.Error("the end takes too long; the next start takes back what is left", slog.Duration("bound", endBound))
		os.Exit(exitFailed)
	})
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	left := -1
	for {
		if n := g.sessions.Stats().Established; n != left {
			g.steps.tell(local.Progress{Step: "deleting sessions", Sessions: n})
			left = n
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}
