package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/guard"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// WatchDrops shows a sample of what the guard drops until ctx ends.
func (g *gateway) WatchDrops(ctx context.Context) (<-chan local.DroppedPacket, error) {
	return g.guard.watch(ctx)
}

// watch has the program take samples as long as somebody looks. Who doesn't
// keep up misses some. The channel is closed at the end.
func (l *guardLayer) watch(ctx context.Context) (<-chan local.DroppedPacket, error) {
	if l.off() {
		return nil, fmt.Errorf("%w: the guard is off", local.ErrConflict)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watchers) == maxWatchers {
		return nil, fmt.Errorf("%w: %d watch already", local.ErrConflict, maxWatchers)
	}
	if err := l.guard.Sample(guardSamples); err != nil {
		return nil, err
	}
	ch := make(chan local.DroppedPacket, guardSamples)
	l.watchers[ch] = struct{}{}
	context.AfterFunc(ctx, func() { l.unwatch(ch) })
	return ch, nil
}

func (l *guardLayer) unwatch(ch chan local.DroppedPacket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.watchers[ch]; !ok {
		return // the gateway ended first
	}
	delete(l.watchers, ch)
	close(ch)
	if len(l.watchers) > 0 {
		return
	}
	if err := l.guard.Sample(0); err != nil {
		l.logger.Debug("guard: samples", slog.Any("error", err))
	}
}

// unwatchAll because the gateway ends.
func (l *guardLayer) unwatchAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ch := range l.watchers {
		delete(l.watchers, ch)
		close(ch)
	}
}

func (l *guardLayer) show(s guard.Sample) {
	p := local.DroppedPacket{
		Time: wall(s.Time), Reason: s.Verdict.String(), Length: s.Length, Data: hex.EncodeToString(s.Data),
	}
	if (s.Remote != netip.AddrPort{}) && !s.Remote.Addr().IsUnspecified() {
		p.Remote, p.Local = s.Remote, s.Local
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for ch := range l.watchers {
		select {
		case ch <- p:
		default:
		}
	}
}

// wall time of a moment since the start of the machine.
func wall(since time.Duration) time.Time {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return time.Now()
	}
	return time.Now().Add(since - time.Duration(t.Nano()))
}
