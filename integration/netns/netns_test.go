package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"golang.org/x/sys/unix"
)

// A device reaches the gateway's outside, and nothing behind it without a
// route; with forwarding and a route of our own it does. Then all is gone.
//
//	dev1 10.1.0.2 -- 10.1.0.1 gw 10.2.0.1 -- 10.2.0.2 lan
func TestOneDeviceReachesOnlyTheOutside(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	dev := top.Devices[0]
	behind := serve(t, top.LAN, netns.LANHost)

	if c, err := dev.Dial(serve(t, top.Gateway, netns.GatewayOutside), 10*time.Second); err != nil {
		t.Fatalf("the gateway's outside: %v", err)
	} else {
		c.Close()
	}
	if c, err := dev.Dial(behind, 10*time.Second); err == nil {
		c.Close()
		t.Fatal("a device without a tunnel reached the host inside")
	} else if !errors.Is(err, unix.ENETUNREACH) {
		t.Fatalf("without a tunnel: %v, want no route", err)
	}

	if _, err := top.Gateway.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	if err := dev.AddRoute(netns.Inside, netns.GatewayOutside); err != nil {
		t.Fatal(err)
	}
	c, err := dev.Dial(behind, 10*time.Second)
	if err != nil {
		t.Fatalf("through the gateway: %v", err)
	}
	c.Close()
}

// Three devices stand behind a router and see the same gateway.
func TestSeveralDevices(t *testing.T) {
	top := netns.ForTest(t, netns.Options{Devices: 3})
	at := serve(t, top.Gateway, netns.GatewayOutside)
	for _, dev := range top.Devices {
		c, err := dev.Dial(at, 10*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", dev.Name(), err)
		}
		if got := c.LocalAddr().String(); !strings.HasPrefix(got, dev.Address.String()+":") {
			t.Errorf("%s connects from %s, want %s", dev.Name(), got, dev.Address)
		}
		c.Close()
	}
}

// A program sees only its namespace, and closing the namespace ends it, also
// where it doesn't want to.
func TestProgramsEndWithTheNamespace(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	out, err := top.LAN.Run(context.Background(), exec.Command("cat", "/proc/net/dev"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), netns.HostLink) || strings.Contains(string(out), netns.OutsideLink) {
		t.Errorf("interfaces of lan:\n%s", out)
	}
	deaf := exec.Command("sh", "-c", "trap '' TERM INT; echo ready; while :; do sleep 1; done")
	ready, err := deaf.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := top.LAN.Start(deaf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(ready, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	if err := top.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil {
		t.Error("it ended with status 0, want killed")
	}
	if err := top.LAN.Do(func() error { return nil }); !errors.Is(err, netns.ErrClosed) {
		t.Errorf("Do after Close: %v, want %v", err, netns.ErrClosed)
	}
}

// Sweep removes what a dead process left behind, and nothing of the living.
func TestSweepRemovesOnlyWhatTheDeadLeft(t *testing.T) {
	top := netns.ForTest(t, netns.Options{})
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left, err := netns.New(fmt.Sprintf("rg-%d-left", dead.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	left.Leave()
	if err := netns.Sweep("rg"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join("/run/netns", left.Name())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace of a dead process is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join("/run/netns", top.LAN.Name())); err != nil {
		t.Errorf("a living namespace was swept: %v", err)
	}
}

func serve(t *testing.T, n *netns.Namespace, at netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := n.Listen(netip.AddrPortFrom(at, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}
