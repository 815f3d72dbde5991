package tun

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/netns"
)

// Topology: two network namespaces, each with a TUN device; the test carries
// frames between the two, so that one kernel's super-packets are segmented by us
// and verified by the other kernel.
//
//	sender 10.98.0.1, fd98::1 -- TUN -- (Segmenter) -- TUN -- 10.98.0.2, fd98::2 receiver

// host makes a TUN device with addresses, up, in the current namespace.
func host(number int) (*Device, error) {
	d, err := Create(Config{Name: "rgtest%d", MTU: 1400})
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(d.Name())
	if err != nil {
		return nil, err
	}
	if mtu := link.Attrs().MTU; mtu != 1400 {
		return nil, fmt.Errorf("MTU is %d", mtu)
	}
	if n := link.Attrs().TxQLen; n != queueLen {
		return nil, fmt.Errorf("%d frames wait", n)
	}
	for _, address := range []string{fmt.Sprintf("10.98.0.%d/24", number), fmt.Sprintf("fd98::%d/64", number)} {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return nil, err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return nil, err
		}
	}
	return d, netlink.LinkSetUp(link)
}

// carry moves frames from one device to the other, segmented, until stop is
// closed. It returns how many were super-packets.
func carry(t *testing.T, from, to *Device, stop chan struct{}, superPackets *atomic.Int64) {
	var s Segmenter
	in, out := make([]byte, MaxFrame), make([]byte, MaxFrame)
	for {
		n, err := from.Read(in)
		if errors.Is(err, unix.EAGAIN) {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(from.FD()), Events: unix.POLLIN}}, 20)
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		if err := s.Reset(in[:n]); err != nil {
			t.Errorf("frame of the kernel: %v: % x", err, in[:min(n, 80)])
			continue
		}
		if in[1] != gsoNone {
			superPackets.Add(1)
		}
		for n := s.Next(out[HeaderLen:]); n > 0; n = s.Next(out[HeaderLen:]) {
			if n > 1400 {
				t.Errorf("packet of %d octets is beyond the MTU", n)
			}
			if err := to.Write(out[:HeaderLen+n]); err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Errorf("write of %d octets: %v", n, err)
			}
		}
	}
}

// pair sets up the topology; listen and dial are run in the namespace of the
// receiver and the sender.
func pair(t *testing.T, listen, dial func() error) *atomic.Int64 {
	t.Helper()
	var sender, receiver *Device
	var err error
	netns.Within(t, func() error {
		if receiver, err = host(2); err != nil {
			return err
		}
		return listen()
	})
	t.Cleanup(func() { receiver.Close() })
	superPackets := new(atomic.Int64)
	netns.Within(t, func() error {
		if sender, err = host(1); err != nil {
			return err
		}
		stop, done := make(chan struct{}), make(chan struct{}, 2)
		go func() { carry(t, sender, receiver, stop, superPackets); done <- struct{}{} }()
		go func() { carry(t, receiver, sender, stop, new(atomic.Int64)); done <- struct{}{} }()
		t.Cleanup(func() {
			close(stop)
			<-done
			<-done
			sender.Close()
		})
		return dial()
	})
	return superPackets
}

func TestKernelTCPThroughSegmenter(t *testing.T) {
	for _, address := range []string{"10.98.0.2:5001", "[fd98::2]:5001"} {
		t.Run(address, func(t *testing.T) {
			var l net.Listener
			var c net.Conn
			var err error
			superPackets := pair(t,
				func() error { l, err = net.Listen("tcp", address); return err },
				func() error { c, err = net.DialTimeout("tcp", address, 10*time.Second); return err })
			defer l.Close()
			defer c.Close()
			sent := make([]byte, 4<<20)
			_, _ = rand.Read(sent)
			go func() {
				_, _ = c.Write(sent)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_ = s.SetDeadline(time.Now().Add(30 * time.Second))
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("received %d octets of %d, %v", len(got), len(sent), err)
			}
			if superPackets.Load() == 0 {
				t.Error("the kernel sent no super-packet: offloads are off")
			}
		})
	}
}

func TestKernelUDPThroughSegmenter(t *testing.T) {
	for _, address := range []string{"10.98.0.2:5001", "[fd98::2]:5001"} {
		t.Run(address, func(t *testing.T) {
			var l net.PacketConn
			var c net.Conn
			var err error
			pair(t,
				func() error { l, err = net.ListenPacket("udp", address); return err },
				func() error { c, err = net.Dial("udp", address); return err })
			defer l.Close()
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			const size, count, last = 1000, 20, 77
			var opt error
			if err := raw.Control(func(fd uintptr) {
				opt = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
			}); err != nil || opt != nil {
				t.Fatal(err, opt)
			}
			// A busy host may drop a datagram on the way: then another burst.
			for attempt := range 20 {
				sent := make([]byte, size*count+last)
				_, _ = rand.Read(sent)
				if _, err := c.Write(sent); err != nil {
					t.Fatal(err)
				}
				_ = l.SetReadDeadline(time.Now().Add(time.Second))
				n, whole := 0, true
				buf := make([]byte, 2*size)
				for n < len(sent) {
					got, _, err := l.ReadFrom(buf)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					want := sent[n:min(n+size, len(sent))]
					whole = whole && bytes.Equal(buf[:got], want)
					n += len(want)
				}
				if n == len(sent) && whole {
					return
				}
				t.Logf("burst %d: %d of %d octets, in order %v", attempt, n, len(sent), whole)
			}
			t.Error("no burst arrived whole and as it was sent")
		})
	}
}

func TestDevice(t *testing.T) {
	netns.Within(t, func() error {
		if _, err := Create(Config{Name: "longer-than-15-octets"}); err == nil {
			return errors.New("a long name was taken")
		}
		d, err := Create(Config{Name: "rgtest"})
		if err != nil {
			return err
		}
		if d.Name() != "rgtest" {
			return fmt.Errorf("name is %q", d.Name())
		}
		if _, err := Create(Config{Name: "rgtest"}); !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("a second device of that name: %w", err)
		}
		if err := d.Write(frameSpec{proto: protoUDP}.build()); !errors.Is(err, unix.EIO) {
			return fmt.Errorf("write while down: %w", err)
		}
		if n, err := d.Read(make([]byte, MaxFrame)); !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("read while there is nothing: %d, %w", n, err)
		}
		if err := errors.Join(d.Close(), d.Close()); err != nil {
			return err
		}
		if _, err := netlink.LinkByName("rgtest"); err == nil {
			return errors.New("the interface is still there")
		}
		return nil
	})
}

// What a queue had no room for is counted, before and after Close.
func TestOverflow(t *testing.T) {
	netns.Within(t, func() error {
		// The kernel has nothing of its own to send without IPv6.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		d, err := Create(Config{Name: "rgtest"})
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName("rgtest")
		if err != nil {
			return err
		}
		at := &net.IPNet{IP: net.IPv4(10, 98, 0, 1), Mask: net.CIDRMask(24, 32)}
		if err := errors.Join(netlink.AddrAdd(link, &netlink.Addr{IPNet: at}), netlink.LinkSetUp(link)); err != nil {
			return err
		}
		if n := d.Overflowed(); n != 0 {
			return fmt.Errorf("%d of none", n)
		}
		c, err := net.Dial("udp4", "10.98.0.2:9")
		if err != nil {
			return err
		}
		defer c.Close()
		const tooMany = 7
		for range queueLen + tooMany {
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
		}
		if n := d.Overflowed(); n != tooMany {
			return fmt.Errorf("%d of %d too many", n, tooMany)
		}
		if err := d.Close(); err != nil {
			return err
		}
		if n := d.Overflowed(); n != tooMany {
			return fmt.Errorf("%d afterwards", n)
		}
		return nil
	})
}

// A super-packet that this kernel refuses would be lost: it takes all kinds.
func TestKernelTakesSuperPackets(t *testing.T) {
	netns.Within(t, func() error {
		d, err := host(1)
		if err != nil {
			return err
		}
		defer d.Close()
		for _, first := range []inner{
			{proto: protoTCP, flow: 1, flags: 0x10, ttl: 9, payload: 1000},
			{proto: protoTCP, flow: 1, flags: 0x10 | tcpCWR, ttl: 9, payload: 1000},
			{proto: protoTCP, v6: true, flow: 1, flags: 0x10, ttl: 9, payload: 1000},
			{proto: protoUDP, flow: 1, ttl: 9, payload: 1000},
			{proto: protoUDP, v6: true, flow: 1, ttl: 9, payload: 1000},
		} {
			if first.proto == protoUDP && !d.USO() {
				continue
			}
			c := NewCoalescer(d, d.USO())
			for p := first; p.seq < 40_000; p.seq += 1000 {
				if p.seq > 0 {
					p.flags &^= tcpCWR
				}
				c.Add(append(make([]byte, HeaderLen), p.build()...))
			}
			if refused := c.Flush(); refused != 0 {
				return errors.New("the kernel refused a super-packet")
			}
		}
		return nil
	})
}
