package access

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/acltest"
)

// attached is on the interface of a world, with the open device known.
func attached(t *testing.T, w *acltest.World, c Config) *Access {
	t.Helper()
	c.Interface, c.MaxDevices = w.Index(), 16
	a, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Attach(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]Config{"tcx": {}, "clsact": {clsact: true}} {
		t.Run(name, func(t *testing.T) {
			acltest.Run(t, func(t *testing.T, w *acltest.World) acltest.Enforcer {
				a := attached(t, w, c)
				if a.Attached() != name {
					t.Errorf("attached by %q", a.Attached())
				}
				return a
			})
		})
	}
}

// bpffs mounts one for the test.
func bpffs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A daemon that ends without a word leaves its lists in force; its successor
// puts its own in their place without a packet in between that isn't judged,
// whatever their maps look like; and an orderly end takes all back.
//
//	first run: quarantine -> killed -> second run: everything -> closed
func TestSuccessor(t *testing.T) {
	pins := filepath.Join(bpffs(t), "gatewayd", "one")
	w := acltest.NewWorld(t)
	open := acl.Device{SPI: 1, Addresses: []netip.Addr{acltest.Open4}, Group: "open"}
	phone := acl.Device{SPI: 2, Addresses: []netip.Addr{acltest.Device4}, Group: "g"}
	start := func(devices int, l *acl.List) *Access {
		a, err := Open(Config{Interface: w.Index(), MaxDevices: devices, Pins: pins})
		if err != nil {
			t.Fatal(err)
		}
		a.set(t, acl.Group{Name: "g", List: l}, acl.Group{Name: "open"})
		for _, err := range a.Add([]acl.Device{open, phone}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Attach(); err != nil {
			t.Fatal(err)
		}
		return a
	}
	p := acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.UDP, Port: 53}
	expect := func(what string, pass bool) {
		t.Helper()
		if got := w.Pass(acl.In, p)[0]; got != pass {
			t.Errorf("%s: passed %t, want %t", what, got, pass)
		}
	}
	first := start(4, acltest.List(t, "allow 10.2.0.1"))
	if got := first.Attached(); got != "tcx, pinned" {
		t.Errorf("attached by %q", got)
	}
	expect("first run", false)
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	expect("nobody runs", false)
	before := linkID(t, pins)
	second := start(64, acltest.List(t, "allow 10.2.0.5")) // maps of another size
	expect("second run", true)
	if after := linkID(t, pins); after != before {
		t.Errorf("link %d was made anew, as %d: there was a gap", before, after)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
	expect("nothing is in force", true)
	if err := second.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func linkID(t *testing.T, pins string) link.ID {
	t.Helper()
	l, err := link.LoadPinnedLink(filepath.Join(pins, "access_in"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.ID
}

// A link whose interface is gone, as a TUN interface is with its process, is of
// no use, and goes.
func TestInterfaceIsGone(t *testing.T) {
	dir := bpffs(t)
	pins := filepath.Join(dir, "gatewayd")
	t.Run("first", func(t *testing.T) {
		w := acltest.NewWorld(t)
		a, err := Open(Config{Interface: w.Index(), MaxDevices: 1, Pins: pins})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Attach(); err != nil {
			t.Fatal(err)
		}
		if err := a.Release(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("second", func(t *testing.T) {
		w := acltest.NewWorld(t)
		a := attached(t, w, Config{Pins: pins})
		a.set(t, acl.Group{Name: "open"})
		a.admit(t, 1, "open", acltest.Open4)
		if !w.Pass(acl.Out, acltest.Packet{Device: acltest.Open4, Remote: acltest.Host4, Protocol: acl.UDP})[0] {
			t.Error("a known device's packet was dropped")
		}
		if w.Pass(acl.Out, acltest.Packet{Device: acltest.Device4, Remote: acltest.Host4, Protocol: acl.UDP})[0] {
			t.Error("the lists are not in force")
		}
	})
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
}

// Without a bpffs nothing is pinned, and everything else works.
func TestNoBPFFS(t *testing.T) {
	w := acltest.NewWorld(t)
	a := attached(t, w, Config{Pins: filepath.Join(t.TempDir(), "gatewayd")})
	if got := a.Attached(); got != "tcx" {
		t.Errorf("attached by %q", got)
	}
	if err := Clear(filepath.Join(t.TempDir(), "nothing")); err != nil {
		t.Errorf("cleared nothing: %v", err)
	}
}

// A device, or all devices of a group, get what their rate says and no more: a
// burst at once, then what time brings.
func TestRates(t *testing.T) {
	rate := acl.Rate{BytesPerSecond: acl.MinRate, Burst: acl.MinBurst}
	for _, c := range []struct {
		name  string
		group acl.Group
		want  acl.Verdict
		other acl.Verdict // of another device when the first has used up its burst
	}{
		{"device", acl.Group{Device: rate}, acl.VerdictDeviceRate, acl.VerdictPass},
		{"group", acl.Group{Total: rate}, acl.VerdictGroupRate, acl.VerdictGroupRate},
		{"device before group", acl.Group{Device: rate, Total: acl.Rate{BytesPerSecond: acl.MaxRate, Burst: 4 * acl.MinBurst}}, acl.VerdictDeviceRate, acl.VerdictPass},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := open(t, Config{})
			a.set(t, c.group)
			second := netip.MustParseAddr("10.9.0.9")
			a.admit(t, 1, "", device4)
			a.admit(t, 2, "", second)
			p := packet{Device: device4, Remote: host4, Protocol: acl.UDP, Payload: make([]byte, 2000)}
			q := p
			q.Device = second
			began := time.Now()
			var passed uint64
			// What time brought meanwhile is added to the burst.
			most := func() uint64 { return acl.MinBurst + uint64(time.Since(began).Seconds()*acl.MinRate) + 1 }
			spend := func(p packet, until acl.Verdict) {
				t.Helper()
				for {
					v, n := a.run(t, acl.In, octets(p, acl.In), 0)
					if v == until {
						return
					}
					if passed += n.Bytes; v != acl.VerdictPass || passed > most() {
						t.Fatalf("%v: %v after %d octets, at most %d pass", p.Device, v, passed, most())
					}
				}
			}
			spend(p, c.want)
			// A packet didn't fit.
			if passed < acl.MinBurst-2100 {
				t.Errorf("%d octets passed at once, want hardly less than %d", passed, acl.MinBurst)
			}
			if v, _ := a.run(t, acl.Out, octets(p, acl.Out), 0); v != acl.VerdictPass {
				t.Errorf("the other direction: %v", v)
			}
			// If it is refused, what time brought may let some pass before.
			spend(q, c.other)
			// Another rate counts from the next packet on.
			a.set(t, acl.Group{})
			if v, _ := a.run(t, acl.In, octets(p, acl.In), 0); v != acl.VerdictPass {
				t.Errorf("without a rate: %v", v)
			}
		})
	}
}
