package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The detour's interface, mark of packets, and routing table.
const (
	lateLink  = "late0"
	lateMark  = 1
	lateTable = 100
)

// Most packets that a detour holds; more are lost.
const lateQueue = 4096

// detour is a TUN interface through which a part of the packets goes: what the
// kernel sends there is given back to it some time later.
type detour struct {
	tun  *os.File
	done chan struct{}
}

// Reorder makes percent of the UDP datagrams, chosen at random, arrive delay
// later than the others, so that others overtake them. There is no netem on
// every kernel, hence a detour through this process. A router that masquerades
// can't: a mapping would belong to the interface that its first packet left by.
func (r *Router) Reorder(ctx context.Context, percent int, delay time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late != nil {
		return errors.New("it reorders already")
	}
	var tun *os.File
	err := r.Do(func() (err error) {
		if tun, err = openTUN(lateLink); err != nil {
			return err
		}
		return errors.Join(setUp(lateLink), routeMarked(netlink.FAMILY_V4), routeMarked(netlink.FAMILY_V6))
	})
	if err == nil {
		_, err = r.Sysctl("net.ipv4.conf.all.rp_filter", "0")
	}
	if err == nil {
		_, err = r.Sysctl("net.ipv4.conf."+lateLink+".rp_filter", "0")
	}
	if err == nil {
		err = r.nft(ctx, fmt.Sprintf(`table inet late {
	chain arriving {
		type filter hook prerouting priority mangle
		iifname != %q meta l4proto udp numgen random mod 100 < %d meta mark set %d
	}
}
`, lateLink, percent, lateMark))
	}
	if err != nil {
		if tun != nil {
			tun.Close()
		}
		return fmt.Errorf("%s: reordering: %w", r.name, err)
	}
	r.late = &detour{tun: tun, done: make(chan struct{})}
	go r.late.run(delay)
	return nil
}

// punctual ends the detour.
func (r *Router) punctual() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late == nil {
		return nil
	}
	err := r.late.tun.Close()
	<-r.late.done
	r.late = nil
	return err
}

// routeMarked sends marked packets, wherever they go, to the detour.
func routeMarked(family int) error {
	link, err := netlink.LinkByName(lateLink)
	if err != nil {
		return err
	}
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table = family, lateMark, lateTable
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rule for marked packets: %w", err)
	}
	dst := anywhere
	if family == netlink.FAMILY_V6 {
		dst = anywhere6
	}
	return netlink.RouteReplace(&netlink.Route{Family: family, Dst: ipNet(dst), LinkIndex: link.Attrs().Index, Table: lateTable})
}

// openTUN makes a TUN interface that goes when the file is closed.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

type latePacket struct {
	due  time.Time
	data []byte
}

// run ends when the file is closed or the interface gone.
func (d *detour) run(delay time.Duration) {
	defer close(d.done)
	held := make(chan latePacket, lateQueue)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for p := range held {
			time.Sleep(time.Until(p.due))
			if _, err := d.tun.Write(p.data); errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := d.tun.Read(buffer)
		if err != nil {
			break
		}
		select {
		case held <- latePacket{time.Now().Add(delay), bytes.Clone(buffer[:n])}:
		default:
		}
	}
	close(held)
	<-written
}
