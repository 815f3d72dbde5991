// Command demo shows gatewayd at work on one machine: three network
// namespaces, a gateway and an enrollment server that `gatewayd init` configured,
// and a strongSwan client that gets a certificate for a one-time password,
// connects, and moves traffic to a host behind the gateway; then the same with
// strongSwan's own enrollment client.
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
//	                           --HTTPS->
//
// It needs root, and changes nothing outside the namespaces that it makes. It
// exits with 0 only if everything that it shows worked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// prefix of the namespaces' names.
const prefix = "rgdemo"

func main() {
	program := flag.String("gatewayd", "bin/gatewayd", "the gatewayd to show")
	size := flag.Int64("bytes", 100e6, "octets to move each way")
	keep := flag.Bool("keep", false, "leave everything running")
	stopKept := flag.Bool("stop", false, "end what -keep left running")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := show(ctx, *program, *size, *keep, *stopKept); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func show(ctx context.Context, program string, size int64, keep, stopKept bool) error {
	switch {
	case os.Geteuid() != 0:
		return errors.New("network namespaces need root: run it by `make demo`, or with sudo")
	case stopKept:
		return stop()
	}
	if err := noneKept(); err != nil {
		return err
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	d := &demo{program: program, size: size, keep: keep}
	if err := d.show(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		return errors.Join(err, d.close())
	}
	if keep {
		return d.leave()
	}
	return d.close()
}

// demo is what runs. Its parts exist from the step on that made them.
type demo struct {
	program string
	size    int64
	keep    bool

	dir        string
	topology   *netns.Topology
	enrollment *gateway.Gateway
	gateway    *gateway.Gateway
	client     *peer.Charon
}

func (d *demo) show(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", prefix); err != nil {
		return err
	}
	say("Laying three network namespaces")
	if d.topology, err = netns.Lay(netns.Options{Prefix: prefix}); err != nil {
		return err
	}
	if d.keep {
		for _, n := range d.topology.Namespaces() {
			n.Outlive()
		}
	}
	if err := d.startGateway(ctx); err != nil {
		return err
	}
	if err := d.startClient(ctx); err != nil {
		return err
	}
	files, err := d.join(ctx, "dev1")
	if err != nil {
		return err
	}
	if err := d.connect(ctx, files); err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	if files, err = d.est(ctx, "dev2"); err != nil {
		return err
	}
	if err := d.client.Disconnect(ctx); err != nil {
		return err
	}
	if err := d.connect(ctx, files); err != nil {
		return err
	}
	return d.second(ctx)
}

// second tells of the other device.
func (d *demo) second(ctx context.Context) error {
	session, _, _, err := d.ask(ctx)
	if err != nil {
		return err
	}
	address, err := d.client.VirtualIP()
	if err != nil {
		return err
	}
	pinging, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	roundTrip, err := traffic.Ping(pinging, d.topology.Devices[0].Namespace, address, netns.LANHost, 56)
	if err != nil {
		return err
	}
	d.table([][2]string{
		{"client", fmt.Sprintf("%s (strongSwan), from %s", session.Device, session.Remote)},
		{"virtual IP", address.String()},
		{"round trip", roundTrip.Round(time.Microsecond).String()},
	})
	return nil
}

func (d *demo) startClient(ctx context.Context) (err error) {
	dir := filepath.Join(d.dir, "client")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	d.client, err = peer.Start(starting, d.topology.Devices[0].Namespace, dir)
	return err
}

// connect with what the device received.
func (d *demo) connect(ctx context.Context, files peer.Files) error {
	say("Connecting strongSwan with what the device received")
	err := d.client.Load(ctx, peer.Connection{
		Files:    files,
		Gateway:  netns.GatewayOutside,
		RemoteID: gatewayID,
		Remote:   inside,
	})
	if err != nil {
		return err
	}
	if err := d.client.Connect(ctx, 20*time.Second); err != nil {
		return fmt.Errorf("connecting: %w\ngatewayd:\n%s", err, d.gateway.LogTail(20))
	}
	return nil
}

// measure uses the tunnel and tells what came of it.
func (d *demo) measure(ctx context.Context) error {
	dev, lan := d.topology.Devices[0], d.topology.LAN
	sa, err := d.client.SA()
	if err != nil {
		return err
	}
	address, err := d.client.VirtualIP()
	if err != nil {
		return err
	}
	pinging, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	roundTrip, err := traffic.Ping(pinging, dev.Namespace, address, netns.LANHost, 56)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("Moving %d MB of TCP each way, compared by SHA-256", d.size/1e6))
	up, err := traffic.TCP(ctx, dev.Namespace, lan, netns.LANHost, d.size)
	if err != nil {
		return fmt.Errorf("TCP up: %w", err)
	}
	down, err := traffic.TCP(ctx, lan, dev.Namespace, address, d.size)
	if err != nil {
		return fmt.Errorf("TCP down: %w", err)
	}
	session, status, drops, err := d.ask(ctx)
	if err != nil {
		return err
	}
	if up.From != address {
		return fmt.Errorf("the host inside saw %s, not the virtual IP %s", up.From, address)
	}
	d.table([][2]string{
		{"client", fmt.Sprintf("%s (strongSwan), from %s", session.Device, session.Remote)},
		{"virtual IP", address.String()},
		{"IKE", sa.Algorithms},
		{"ESP", sa.Children[0].Algorithms + " in UDP"},
		{"backend", status.Backend},
		{"round trip", roundTrip.Round(time.Microsecond).String()},
		{"TCP up", fmt.Sprintf("%.0f Mb/s, content verified", up.BitsPerSecond()/1e6)},
		{"TCP down", fmt.Sprintf("%.0f Mb/s, content verified", down.BitsPerSecond()/1e6)},
		{"drops", drops},
	})
	return nil
}

func say(what string) { fmt.Println("-", what) }

func (d *demo) table(rows [][2]string) {
	fmt.Println()
	for _, r := range rows {
		fmt.Printf("  %-12s %s\n", r[0], r[1])
	}
}

// close ends and removes everything, in the reverse order. It is called once,
// whatever was made.
func (d *demo) close() error {
	var failed error
	if d.client != nil {
		failed = errors.Join(failed, d.client.Stop())
	}
	for _, server := range []*gateway.Gateway{d.gateway, d.enrollment} {
		if server != nil {
			failed = errors.Join(failed, server.Terminate(15*time.Second))
		}
	}
	if d.topology != nil {
		failed = errors.Join(failed, d.topology.Close())
	}
	if d.dir != "" {
		failed = errors.Join(failed, os.RemoveAll(d.dir))
	}
	if failed == nil {
		say("Everything is taken back")
	}
	return failed
}
