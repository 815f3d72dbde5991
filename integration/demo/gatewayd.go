package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

const gatewayID = "gw.demo.example"

var inside = []netip.Prefix{netns.Inside}

// startGateway does what an administrator does first.
func (d *demo) startGateway(ctx context.Context) error {
	say("Writing configuration and PKI: gatewayd init")
	err := d.gatewayd(ctx, "init", "--dir", d.dir,
		"--id", gatewayID,
		"--external", netns.OutsideLink, "--address", netns.GatewayOutside.String(),
		"--internal", netns.InsideLink,
		"--pool", "10.9.0.0/24", "--network", netns.Inside.String())
	if err != nil {
		return err
	}
	if err := d.startEnrollment(ctx); err != nil {
		return err
	}
	say("Starting gatewayd run gateway")
	g := gateway.New(d.topology.Gateway, d.program, d.config(), gateway.MetricsAt)
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := g.Start(starting); err != nil {
		return err
	}
	d.gateway = g
	return nil
}

func (d *demo) config() string { return filepath.Join(d.dir, "gatewayd.yaml") }

// gatewayd runs a command inside the gateway's namespace.
func (d *demo) gatewayd(ctx context.Context, args ...string) error {
	_, err := run(ctx, d.topology.Gateway, d.program, args...)
	return err
}

// run a program inside a namespace and return what it printed.
func run(ctx context.Context, ns *netns.Namespace, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return ns.Run(ctx, exec.Command(program, args...))
}

// ask asks the running gateway about its session and what it dropped.
func (d *demo) ask(ctx context.Context) (gateway.Session, gateway.Status, string, error) {
	var session gateway.Session
	status, err := d.gateway.Status(ctx)
	if err != nil {
		return session, status, "", err
	}
	sessions, err := d.gateway.Sessions(ctx)
	if err != nil {
		return session, status, "", err
	}
	if len(sessions) != 1 {
		return session, status, "", fmt.Errorf("the gateway has %d sessions, want one: %+v", len(sessions), sessions)
	}
	drops, err := d.gateway.Drops(ctx)
	if err != nil {
		return session, status, "", err
	}
	var counted []string
	for _, drop := range drops {
		if drop.Count > 0 {
			counted = append(counted, fmt.Sprintf("%s/%s %d", drop.Layer, drop.Reason, drop.Count))
		}
	}
	if len(counted) == 0 {
		counted = []string{"none"}
	}
	return sessions[0], status, strings.Join(counted, ", "), nil
}
