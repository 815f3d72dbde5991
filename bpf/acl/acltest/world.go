package acltest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
)

// World is a router in a network namespace of its own, with nothing but two TUN
// interfaces:
//
//	devices (10.9.0.0/16, 2001:db8:9::/48) -- dev0 [router] lan0 -- 10.2.0.0/16, 2001:db8:2::/48
//
// The goroutine of the test is in that namespace from then on, and its thread
// ends with it.
type World struct {
	t      testing.TB
	dev    int
	lan    int
	nextID uint32
}

// Names of the interfaces.
const (
	DeviceLink = "dev0"
	LANLink    = "lan0"
)

// NewWorld makes one; it needs root and TUN.
func NewWorld(t testing.TB) *World {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	runtime.LockOSThread() // and never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	// Marks that nothing of the kernel ends with by chance.
	w := &World{t: t, dev: tun(t, DeviceLink), lan: tun(t, LANLink), nextID: 0x526f0000}
	for _, setting := range []string{
		"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv4/conf/all/rp_filter=0",
		"ipv4/conf/dev0/rp_filter=0", "ipv4/conf/lan0/rp_filter=0",
		// Nothing but what a test sends.
		"ipv6/conf/dev0/addr_gen_mode=1", "ipv6/conf/lan0/addr_gen_mode=1",
	} {
		path, value, _ := strings.Cut(setting, "=")
		if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{
		"link set lo up", "link set dev0 up", "link set lan0 up",
		"route add 10.9.0.0/16 dev dev0", "route add 10.2.0.0/16 dev lan0",
		"-6 route add 2001:db8:9::/48 dev dev0", "-6 route add 2001:db8:2::/48 dev lan0",
	} {
		if said, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", command, err, said)
		}
	}
	return w
}

// Index of DeviceLink.
func (w *World) Index() int {
	w.t.Helper()
	i, err := net.InterfaceByName(DeviceLink)
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Index
}

// Go runs f in the namespace, on another thread, until it returns.
func (w *World) Go(f func()) (wait func()) {
	w.t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	return func() {
		w.t.Helper()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		ns.Close()
	}
}

func tun(t testing.TB, name string) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		t.Skip("the kernel has no TUN")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	return fd
}

// sentinel of a batch: a packet that reaches its end, sent last. The kernel
// carries the packets of one writer in their order.
const sentinel = ^uint32(0)

// Pass sends packets in a direction and says which of them came out at the other
// end. The device Open4 is in a group without a list.
func (w *World) Pass(d acl.Direction, packets ...Packet) []bool {
	w.t.Helper()
	in, out := w.dev, w.lan
	if d == acl.Out {
		in, out = out, in
	}
	for i, p := range append(packets[:len(packets):len(packets)], Packet{Device: Open4, Remote: Host4, Protocol: acl.UDP, Port: 9}) {
		id := w.nextID + uint32(i)
		if i == len(packets) {
			id = sentinel
		}
		// The mark is at the end, where even a fragment has it.
		p.Payload = binary.BigEndian.AppendUint32(append([]byte(nil), p.Payload...), id)
		if _, err := unix.Write(in, p.Octets(d)); err != nil && !errors.Is(err, unix.EINVAL) {
			w.t.Fatalf("%+v: %v", p, err)
		}
	}
	passed := make([]bool, len(packets))
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(20 * time.Second); ; {
		n, err := unix.Read(out, buf)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			if time.Now().After(deadline) {
				w.t.Fatal("the last packet of a batch, which nothing may drop, has not come")
			}
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(out), Events: unix.POLLIN}}, 100)
			continue
		}
		if err != nil || n < 4 {
			w.t.Fatal(n, err)
		}
		id := binary.BigEndian.Uint32(buf[n-4 : n])
		if id == sentinel {
			break
		}
		if i := id - w.nextID; i < uint32(len(packets)) {
			passed[i] = true
		}
	}
	w.nextID += uint32(len(packets))
	return passed
}

// expect sends a packet both ways.
func (w *World) expect(what string, p Packet, pass bool) {
	w.t.Helper()
	for d := range acl.NumDirections {
		if got := w.Pass(acl.Direction(d), p)[0]; got != pass {
			w.t.Errorf("%s, %v: passed %t, want %t", what, acl.Direction(d), got, pass)
		}
	}
}

func (p Packet) String() string {
	return fmt.Sprintf("%v with %v, protocol %d, port %d, fragment %d", p.Device, p.Remote, p.Protocol, p.Port, p.Fragment)
}
