package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/alerter"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// managementHost is a gateway as its manager sees it.
type managementHost struct {
	g *gateway
	m *management
}

var _ agent.Host = managementHost{}

// Tell how the gateway is.
func (h managementHost) Tell(s *gcm.State) {
	g := h.g
	s.Sessions = g.sessions.Stats().Established
	g.mu.Lock()
	defer g.mu.Unlock()
	s.MaxSessions, s.Drain = g.config.Gateway.Limits.Sessions, g.drain
	s.Problems = append(s.Problems, g.built.Warnings...)
	if len(g.needRestart) > 0 {
		s.Problems = append(s.Problems, "only a restart applies "+strings.Join(g.needRestart, ", "))
	}
	if end, ok := g.built.Admit.RevocationExpires(); ok {
		s.RevocationListEnds = end
	}
	switch {
	case g.state() == "stopping":
		s.Health = gcm.Stopping
	case g.drain.On:
		s.Health = gcm.Draining
	}
}

// Sessions that are up.
func (h managementHost) Sessions(device string, yield func(gcm.Session) bool) {
	for _, i := range h.g.sessions.Sessions() {
		if device != "" && i.Device != device {
			continue
		}
		s := gcm.Session{
			ID: hex64(uint64(i.ID)), Device: i.Device, Group: i.Group, Addresses: i.VirtualIPs, Peer: i.Remote,
			Established: i.Established, Heard: i.LastIn, Resumed: i.Resumed, IKE: i.IKE, ESP: i.ESP, Client: i.Client,
			BytesIn: i.BytesIn, PacketsIn: i.PacketsIn, BytesOut: i.BytesOut, PacketsOut: i.PacketsOut,
		}
		if !yield(s) {
			return
		}
	}
}

// End sessions of a device.
func (h managementHost) End(device, id string) bool {
	if id == "" {
		return h.g.sessions.Kill(func(i session.Info) bool { return i.Device == device }) > 0
	}
	n, err := strconv.ParseUint(id, 16, 64)
	return err == nil && h.g.sessions.End(device, lease.SessionID(n))
}

// Alert a device through its tunnel.
func (h managementHost) Alert(device, alert string, octets []byte) error {
	if h.m.alerts == nil {
		return fmt.Errorf("%w: neither gateway.tunnel.address nor gateway.tunnel.ipv6 is set", agent.ErrNoAlerts)
	}
	err := h.m.alerts.Send(device, alert, octets)
	switch {
	case errors.Is(err, alerter.ErrNotConnected):
		return fmt.Errorf("%w: %w", agent.ErrNoSession, err)
	case errors.Is(err, alerter.ErrFull):
		return fmt.Errorf("%w: %w", gcm.ErrBusy, err)
	case errors.Is(err, alerter.ErrSize):
		return fmt.Errorf("%w: %w", agent.ErrAlert, err)
	}
	return err
}

// Drain the gateway, or take that back.
func (h managementHost) Drain(d gcm.Drain) error {
	if d.To != "" && !config.IsGateway(d.To) {
		return fmt.Errorf("got %q, expected a domain name or an IP address of another gateway", d.To)
	}
	return h.g.drainFor(d)
}

// Reload the configuration file.
func (h managementHost) Reload() (gcm.Reloaded, bool) {
	r, err := h.g.Reload()
	if err != nil {
		return gcm.Reloaded{Problems: strings.Split(err.Error(), "\n")}, false
	}
	return gcm.Reloaded{Warnings: r.Warnings, NeedRestart: r.NeedRestart}, true
}

// drainFor a manager. One that is under way ends.
func (g *gateway) drainFor(d gcm.Drain) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	g.mu.Lock()
	ending := g.draining || g.state() == "stopping"
	emptied := g.emptied
	g.mu.Unlock()
	if ending {
		return agent.ErrStopping
	}
	if !d.On {
		d = gcm.Drain{}
	}
	if err := g.shutLocked(func() { g.drain = d }); err != nil {
		return err
	}
	if emptied != nil {
		close(emptied)
	}
	emptied = nil
	if d.On {
		emptied = make(chan struct{})
		go g.empty(emptied, time.Duration(d.Within)*time.Second, d.To, func(int) {})
	}
	g.mu.Lock()
	g.emptied = emptied
	g.mu.Unlock()
	return nil
}
