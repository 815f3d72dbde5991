package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/integration/netns"
)

var layout = Config{LoopShift: 26, LoopMask: 31, Addresses: 4}

func open(t *testing.T) *Steer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load BPF programs")
	}
	s, err := Open(layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Of four sockets each gets the SPIs of its loop, whoever sends; what no loop
// has goes to any one of them, and so does what is too short.
func TestSockets(t *testing.T) {
	const loops = 4
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			group, err := encap.ListenGroup(netip.MustParseAddrPort(address), "", loops)
			if errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Skip("no such loopback")
			}
			if err != nil {
				t.Fatal(err)
			}
			var fds []int
			for _, s := range group {
				defer s.Close()
				fds = append(fds, s.FD())
			}
			if err := open(t).Sockets(fds); err != nil {
				t.Fatal(err)
			}
			receiver := encap.NewReceiver(4)
			for sender := range 20 {
				from, err := net.Dial("udp", group[0].Local().String())
				if err != nil {
					t.Fatal(err)
				}
				defer from.Close()
				for _, c := range []struct {
					payload []byte
					want    int // -1: any
				}{
					{spi(0, 0, 300), 0}, {spi(0, 1, 0), 1}, {spi(1, 2, 1<<26-1), 2}, {spi(1, 3, 77), 3},
					{[]byte{0, 0, 0, 0, 'I', 'K', 'E'}, 0},
					{spi(0, 4, 9), -1}, {spi(1, 31, 9), -1}, {[]byte{0xFF}, -1}, {nil, -1},
				} {
					if _, err := from.Write(c.payload); err != nil {
						t.Fatal(err)
					}
					got := -1
					for i, s := range group {
						if receiver.Receive(s) > 0 {
							got = i
						}
					}
					if got < 0 || c.want >= 0 && got != c.want {
						t.Errorf("sender %d: %x came to %d, want %d", sender, c.payload, got, c.want)
					}
				}
			}
		})
	}
}

func spi(member, loop, rest uint32) []byte {
	b := make([]byte, 100)
	binary.BigEndian.PutUint32(b, member<<31|loop<<26|rest)
	return b
}

// A packet to a virtual address comes to the queue of its owner, in both
// families and as a super-packet too; what nobody owns comes somewhere.
func TestQueues(t *testing.T) {
	s := open(t)
	netns.Within(t, func() error {
		const loops = 4
		queues, err := tun.CreateQueues(tun.Config{Name: "rgsteer%d"}, loops)
		if err != nil {
			return err
		}
		for _, q := range queues {
			defer q.Close()
		}
		if err := s.Queues(queues[0].FD()); err != nil {
			return err
		}
		link, err := netlink.LinkByName(queues[0].Name())
		if err != nil {
			return err
		}
		for _, a := range []string{"10.9.255.254/16", "fd00:9::fffe/64"} {
			address, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			address.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, address); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		owned := map[netip.Addr]int{
			netip.MustParseAddr("10.9.0.1"): 3, netip.MustParseAddr("10.9.0.2"): 1,
			netip.MustParseAddr("fd00:9::1"): 2, netip.MustParseAddr("fd00:9::2"): 0,
		}
		for a, loop := range owned {
			if err := s.Own(a, loop); err != nil {
				return err
			}
		}
		stranger := netip.MustParseAddr("10.9.0.77")
		if s.Own(stranger, 1) == nil {
			t.Error("more addresses than there is room for")
		}
		owned[stranger] = -1
		for a, loop := range owned {
			for n := range 10 {
				if got, err := queueOf(queues, a, n%2 == 1); err != nil || got < 0 || loop >= 0 && got != loop {
					t.Errorf("%v came to queue %d, %v; want %d", a, got, err, loop)
				}
			}
		}
		if err := errors.Join(s.Disown(stranger), s.Disown(netip.MustParseAddr("10.9.0.2")), s.Own(stranger, 2)); err != nil {
			return err
		}
		if got, err := queueOf(queues, stranger, false); got != 2 {
			t.Errorf("with an owner it came to queue %d, %v", got, err)
		}
		return nil
	})
}

// queueOf sends something to an address and says in which queue it comes.
func queueOf(queues []*tun.Device, to netip.Addr, super bool) (int, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	payload := make([]byte, 100)
	if super {
		raw, err := conn.SyscallConn()
		if err != nil {
			return -1, err
		}
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)
		}), err)
		if err != nil {
			return -1, err
		}
		payload = make([]byte, 5000)
	}
	if _, err := conn.Write(payload); err != nil {
		return -1, err
	}
	frame := make([]byte, tun.MaxFrame)
	for range 100 {
		for i, q := range queues {
			for n, err := q.Read(frame); err == nil; n, err = q.Read(frame) {
				ip := frame[tun.HeaderLen:n]
				a, _ := netip.AddrFromSlice(ip[16:20])
				if ip[0]>>4 == 6 {
					a, _ = netip.AddrFromSlice(ip[24:40])
				}
				if a == to {
					return i, nil
				}
			}
		}
		unix.Poll(nil, 10)
	}
	return -1, fmt.Errorf("nothing came")
}
