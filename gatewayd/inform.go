package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/control/dhcp"
)

// informer answers DHCPINFORM inside the tunnel, with a server that is replaced
// when the pools change. Without a server address it does nothing.
type informer struct {
	tun    string
	logger *slog.Logger
	runs   sync.WaitGroup

	mu     sync.Mutex
	server *dhcp.Server // nil: none
	pools  []netip.Prefix
	former dhcp.Stats // of servers that were replaced
}

// use changes what is answered and to whom; with an error nothing has changed.
func (i *informer) use(c dhcp.Config, pools []netip.Prefix) error {
	if !c.Server.IsValid() {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server != nil && slices.Equal(pools, i.pools) {
		return i.server.Update(c)
	}
	next, err := dhcp.Listen(dhcp.ServerConfig{Interface: i.tun, Pools: pools, Answers: c})
	if err != nil {
		return err
	}
	i.end()
	i.server, i.pools = next, slices.Clone(pools)
	i.runs.Go(func() {
		if err := next.Run(context.Background()); err != nil {
			i.logger.Error("DHCPINFORM is not answered any more", slog.Any("error", err))
		}
	})
	return nil
}

// end closes the server and keeps its figures. The caller holds mu.
func (i *informer) end() {
	if i.server == nil {
		return
	}
	if err := i.server.Close(); err != nil {
		i.logger.Warn("DHCP socket", slog.Any("error", err))
	}
	i.former = sum(i.former, i.server.Stats())
	i.server = nil
}

// stats of all servers so far.
func (i *informer) stats() dhcp.Stats {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server == nil {
		return i.former
	}
	return sum(i.former, i.server.Stats())
}

func sum(a, b dhcp.Stats) dhcp.Stats {
	a.Answered += b.Answered
	a.LeftOut += b.LeftOut
	for r := range a.Drops {
		a.Drops[r] += b.Drops[r]
	}
	return a
}

// close ends it.
func (i *informer) close() {
	i.mu.Lock()
	i.end()
	i.mu.Unlock()
	i.runs.Wait()
}
