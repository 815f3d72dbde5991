// Command demo shows the whole life of a device on one machine: three network
// namespaces, `gatewayd run all` in one of them, and strongSwan with a device
// management client in another. The device enrolls with a one-time password,
// connects into quarantine, takes a policy and is released without connecting
// again, moves traffic, roams, is woken by an alert and locked, wiped, and refused.
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd run all) 10.2.0.1 -- 10.2.0.2 lan
//	     (OMA DM)              --HTTPS in the tunnel-> 10.2.0.1
//
// It needs root, and changes nothing outside the namespaces that it makes. It
// exits with 0 only if everything that it shows worked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
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
	keep := flag.Bool("keep", false, "leave everything running, before the device is wiped")
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
	d := &demo{program: program, size: size, keep: keep, began: time.Now()}
	if err := d.show(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		} else if d.system != nil {
			err = fmt.Errorf("%w\ngatewayd:\n%s", err, d.system.tail(25))
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
	began   time.Time

	dir      string
	topology *netns.Topology
	capture  *traffic.Capture
	system   *system
	gateway  *gateway.Gateway // its local commands
	client   *peer.Charon
	phone    *phone
	address  netip.Addr // of the device, in the tunnel
}

func (d *demo) show(ctx context.Context) error {
	steps := []struct {
		says string
		do   func(context.Context) (string, error)
	}{
		{"Three network namespaces: a device, a gateway, a host inside", d.lay},
		{"gatewayd run all: the first start makes a CA and a configuration, and starts gateway, manager and enrollment", d.start},
		{"gatewayd policy apply: no camera on any device", d.policy},
		{"On the device, with the code that the first start printed: gatewayd enrollment join", d.join},
		{"strongSwan connects with what it got, and is in quarantine", d.connect},
		{"The device's first OMA DM session, through the tunnel, applies the policy and lifts the quarantine", d.release},
		{fmt.Sprintf("%d MB of TCP each way, compared by SHA-256", d.size/1e6), d.move},
		{"The device roams to another address", d.roam},
		{"gatewayd task place lock: an alert through the tunnel wakes the device", d.lock},
	}
	if !d.keep {
		steps = append(steps, []struct {
			says string
			do   func(context.Context) (string, error)
		}{
			{"gatewayd task place wipe: confirmed, certificate revoked, session cut", d.wipe},
			{"strongSwan tries again", d.refused},
			{"What the gateway sent toward the inside, all the time", d.judge},
		}...)
	}
	for _, s := range steps {
		began := time.Now()
		fmt.Println("-", s.says)
		said, err := s.do(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("    %5.1f s  %s\n", time.Since(began).Seconds(), said)
	}
	fmt.Printf("\n%.1f s in all.\n", time.Since(d.began).Seconds())
	return nil
}

func (d *demo) lay(context.Context) (said string, err error) {
	if d.dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", err
	}
	if d.topology, err = netns.Lay(netns.Options{Prefix: prefix}); err != nil {
		return "", err
	}
	if d.keep {
		for _, n := range d.topology.Namespaces() {
			n.Outlive()
		}
	}
	d.capture, err = traffic.StartCapture(d.topology.Gateway, netns.InsideLink, filepath.Join(d.dir, "inside.pcap"), 96)
	return "dev1 10.1.0.2 -- 10.1.0.1 gw 10.2.0.1 -- 10.2.0.2 lan", err
}

// close ends and removes everything, in the reverse order. It is called once,
// whatever was made.
func (d *demo) close() error {
	var failed error
	if d.phone != nil {
		failed = errors.Join(failed, d.phone.close())
	}
	if d.client != nil {
		failed = errors.Join(failed, d.client.Stop())
	}
	if d.system != nil {
		failed = errors.Join(failed, d.system.process.Stop(45*time.Second))
	}
	failed = errors.Join(failed, d.stopCapture())
	if d.topology != nil {
		failed = errors.Join(failed, d.topology.Close())
	}
	if d.dir != "" {
		failed = errors.Join(failed, os.RemoveAll(d.dir))
	}
	if failed == nil {
		fmt.Println("- Everything is taken back")
	}
	return failed
}

func (d *demo) stopCapture() error {
	if d.capture == nil {
		return nil
	}
	c := d.capture
	d.capture = nil
	return c.Stop()
}
