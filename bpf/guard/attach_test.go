package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// attached runs f on a thread of its own in a new network namespace, whose
// loopback interface is up, with a BPF file system at dir. Both go with it.
func attached(t *testing.T, f func(dir string) error) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("private mounts: %w", err)
			}
			if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
				return fmt.Errorf("mount a BPF file system: %w", err)
			}
			if err := loopbackUp(); err != nil {
				return fmt.Errorf("loopback: %w", err)
			}
			return f(filepath.Join(dir, "gatewayd"))
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// on the loopback interface, for 127.0.0.1.
func onLoopback(dir string) Config {
	cfg := testConfig()
	cfg.Interface, cfg.Locals, cfg.Dir = 1, nil, dir
	for _, a := range []string{"127.0.0.1", "::1"} {
		cfg.Locals = append(cfg.Locals, mustAddr(a))
	}
	return cfg
}

// arrives sends an ESP packet in UDP through the loopback interface, and behind
// it one that always passes, and says whether the first comes before the second.
func arrives(spi uint32) (bool, error) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4500})
	if err != nil {
		return false, err
	}
	defer server.Close()
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		return false, err
	}
	defer client.Close()
	last := []byte("end") // too short for a guard to care
	for _, b := range [][]byte{esp(spi), last} {
		if _, err := client.Write(b); err != nil {
			return false, err
		}
	}
	if err := server.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return false, err
	}
	for arrived := false; ; arrived = true {
		if n, err := server.Read(make([]byte, 100)); err != nil || n == len(last) {
			return arrived, err
		}
	}
}

func expectArrival(spi uint32, want bool) error {
	got, err := arrives(spi)
	if err == nil && got != want {
		err = fmt.Errorf("ESP of SPI %x arrives: %t, want %t", spi, got, want)
	}
	return err
}

// The life of a guard over two daemons: filtering goes on between them, the
// second takes over what the first knew and forgets what isn't any more.
func TestFilteringOutlivesTheDaemon(t *testing.T) {
	attached(t, func(dir string) error {
		if err := expectArrival(0x1001, true); err != nil {
			return fmt.Errorf("before: %w", err)
		}
		g, err := Open(onLoopback(dir))
		if err != nil {
			return err
		}
		defer g.Close()
		mode, reason := g.Mode()
		if mode != Generic || reason == nil {
			return fmt.Errorf("loopback has no native XDP: mode %v, reason %w", mode, reason)
		}
		if _, err := os.Stat(dir); err == nil || g.TookOver() {
			return fmt.Errorf("before it is pinned: took over %t, folder %w", g.TookOver(), err)
		}
		if err := errors.Join(g.Pin(), g.Pin()); err != nil {
			return err
		}
		if err := errors.Join(g.Add([]uint32{0x1001, 0x1002})...); err != nil {
			return err
		}
		if err := errors.Join(expectArrival(0x1001, true), expectArrival(0x1009, false)); err != nil {
			return fmt.Errorf("attached: %w", err)
		}
		event, err := g.Next()
		if e, ok := event.(UnknownSPI); err != nil || !ok || e.SPI != 0x1009 || !e.Encapsulated || e.Local.String() != "127.0.0.1:4500" || e.Remote.Addr() != mustAddr("127.0.0.1") {
			return fmt.Errorf("event %+v, %w", event, err)
		}
		if err := g.Close(); err != nil {
			return err
		}
		if err := errors.Join(expectArrival(0x1001, true), expectArrival(0x1009, false)); err != nil {
			return fmt.Errorf("no daemon: %w", err)
		}

		// The next one, with room for more.
		cfg := onLoopback(dir)
		cfg.SPIs = 5000
		if g, err = Open(cfg); err != nil {
			return err
		}
		defer g.Close()
		if !g.TookOver() {
			return errors.New("the second daemon didn't take over")
		}
		if err := g.Pin(); err != nil {
			return err
		}
		if err := errors.Join(expectArrival(0x1001, true), expectArrival(0x1009, false)); err != nil {
			return fmt.Errorf("taken over: %w", err)
		}
		if n, err := g.Retain(func(spi uint32) bool { return spi == 0x1002 }); err != nil || n != 1 {
			return fmt.Errorf("%d SPIs forgotten, %w", n, err)
		}
		if err := errors.Join(expectArrival(0x1001, false), expectArrival(0x1002, true)); err != nil {
			return fmt.Errorf("reconciled: %w", err)
		}
		if err := g.Close(); err != nil {
			return err
		}
		if found, err := Clear(dir); !found || err != nil {
			return fmt.Errorf("clear: %t %w", found, err)
		}
		if found, err := Clear(dir); found || err != nil {
			return fmt.Errorf("clear again: %t %w", found, err)
		}
		return expectArrival(0x1009, true)
	})
}

// What a daemon of another version left is replaced; a link that is of no use,
// too.
func TestOtherLayoutsAreReplaced(t *testing.T) {
	attached(t, func(dir string) error {
		g, err := Open(onLoopback(dir))
		if err != nil {
			return err
		}
		if err := errors.Join(append(g.Add([]uint32{0x1001}), g.Pin(), g.Close())...); err != nil {
			return err
		}
		// The layout before ours, and a table of our name that isn't ours.
		old := filepath.Join(dir, spisName(spisLayout))
		if err := os.Rename(old, filepath.Join(dir, spisName(spisLayout-1))); err != nil {
			return err
		}
		other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 10})
		if err != nil {
			return err
		}
		defer other.Close()
		if err := other.Pin(old); err != nil {
			return err
		}
		g, err = Open(onLoopback(dir))
		if err != nil {
			return err
		}
		defer g.Close()
		if !g.TookOver() {
			return errors.New("the program wasn't swapped")
		}
		if err := g.Pin(); err != nil {
			return err
		}
		if err := expectArrival(0x1001, false); err != nil {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if want := []string{"link-generic", spisName(spisLayout)}; !slices.Equal(names, want) {
			return fmt.Errorf("pinned %q, want %q", names, want)
		}
		return nil
	})
}

// Without a folder the filter ends with its daemon; where it can't be attached,
// nothing has changed.
func TestUnpinnedAndRefused(t *testing.T) {
	attached(t, func(dir string) error {
		g, err := Open(onLoopback(""))
		if err != nil {
			return err
		}
		defer g.Close()
		second := onLoopback(dir) // of another gateway
		second.Locals = []netip.Addr{mustAddr("127.0.0.3")}
		if other, err := Open(second); !errors.Is(err, ErrAttach) {
			return fmt.Errorf("a second program on an interface: %v, %w", other, err)
		}
		if err := expectArrival(0x1009, false); err != nil {
			return err
		}
		if err := g.Close(); err != nil {
			return err
		}
		native := onLoopback(dir)
		native.Mode = Native
		if _, err := Open(native); !errors.Is(err, ErrAttach) {
			return fmt.Errorf("native XDP on loopback: %w", err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			return fmt.Errorf("a refused guard left %v", entries)
		}
		return expectArrival(0x1009, true)
	})
}

// The next daemon's folder is another one, or none, or it has no guard: what its
// predecessor pinned must not go on dropping what nobody tells it any more.
func TestPinnedElsewhere(t *testing.T) {
	for _, next := range []string{"", "other", "off"} {
		attached(t, func(dir string) error {
			g, err := Open(onLoopback(dir))
			if err != nil {
				return err
			}
			if err := errors.Join(g.Pin(), g.Close(), expectArrival(0x1001, false)); err != nil {
				return err
			}
			locals := onLoopback("").Locals
			if next == "off" {
				if found, err := Displace(1, []netip.Addr{mustAddr("127.0.0.3")}); found || err != nil {
					return fmt.Errorf("a guard of others is taken away: %t %w", found, err)
				}
				if found, err := Displace(1, locals); !found || err != nil {
					return fmt.Errorf("displaced: %t %w", found, err)
				}
				if found, err := Displace(1, locals); found || err != nil {
					return fmt.Errorf("displaced again: %t %w", found, err)
				}
				return expectArrival(0x1001, true)
			}
			cfg := onLoopback("")
			if next != "" {
				cfg.Dir = filepath.Join(filepath.Dir(dir), next)
			}
			again, err := Open(cfg)
			if err != nil {
				return fmt.Errorf("pins %q: %w", next, err)
			}
			defer again.Close()
			if err := errors.Join(append(again.Add([]uint32{0x1001}), expectArrival(0x1001, true), expectArrival(0x1002, false))...); err != nil {
				return fmt.Errorf("pins %q: %w", next, err)
			}
			return errors.Join(again.Close(), expectArrival(0x1002, true))
		})
	}
}

// Links know no namespaces: a guard on the interface of the same number, for the
// same address, in another one is left alone.
func TestGuardOfAnotherNamespaceStays(t *testing.T) {
	attached(t, func(dir string) error {
		g, err := Open(onLoopback(dir))
		if err != nil {
			return err
		}
		defer g.Close()
		if err := errors.Join(g.Add([]uint32{0x1001})...); err != nil {
			return err
		}
		elsewhere := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked, as in attached
			err := unix.Unshare(unix.CLONE_NEWNET)
			if err == nil {
				var found bool
				if found, err = Displace(1, onLoopback("").Locals); found {
					err = errors.New("the guard of another namespace was taken away")
				}
			}
			elsewhere <- err
		}()
		return errors.Join(<-elsewhere, expectArrival(0x1001, true), expectArrival(0x1009, false))
	})
}
