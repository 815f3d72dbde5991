package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/integration/netns"
)

// Capture records the frames of one interface, both directions, into a file in
// pcap format, from StartCapture until Stop.
type Capture struct {
	fd   int
	done chan error
	stop chan struct{}
	once sync.Once
	err  error
}

// StartCapture begins to record; frames are cut after snap octets, none where
// it is 0. When it returns, no later frame is missed but for want of space.
func StartCapture(ns *netns.Namespace, link, path string, snap int) (*Capture, error) {
	if snap == 0 {
		snap = 1 << 17
	}
	c := &Capture{done: make(chan error, 1), stop: make(chan struct{})}
	err := ns.Do(func() (err error) {
		c.fd, err = openPacketSocket(link)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capturing on %s of %s: %w", link, ns.Name(), err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, errors.Join(err, unix.Close(c.fd))
	}
	go func() { c.done <- c.run(file, snap) }()
	return c, nil
}

func openPacketSocket(link string) (int, error) {
	index, err := interfaceIndex(link)
	if err != nil {
		return 0, err
	}
	if err := oneByOne(link); err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	everything := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 128<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: index}),
	)
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// oneByOne has the kernel cut super-packets before it gives them to the interface
// and to those who capture there: one frame a datagram.
func oneByOne(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return netlink.LinkSetGSOMaxSegs(l, 1)
}

// interfaceIndex asks the namespace of the calling thread.
func interfaceIndex(link string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(link)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}

// run reads until it was told to stop and the socket is empty.
func (c *Capture) run(file *os.File, snap int) (err error) {
	w := bufio.NewWriterSize(file, 1<<20)
	defer func() { err = errors.Join(err, w.Flush(), file.Close()) }()
	pcap := pcapgo.NewWriter(w)
	if err := pcap.WriteFileHeader(uint32(snap), layers.LinkTypeEthernet); err != nil {
		return err
	}
	frame := make([]byte, 1<<17)
	for {
		n, _, err := unix.Recvfrom(c.fd, frame, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			select {
			case <-c.stop:
				return c.lost()
			default:
				continue
			}
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		kept := min(n, len(frame), snap)
		info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: kept, Length: n}
		if err := pcap.WritePacket(info, frame[:kept]); err != nil {
			return err
		}
	}
}

func (c *Capture) lost() error {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err == nil && stats.Drops > 0 {
		err = fmt.Errorf("the capture lost %d of %d frames", stats.Drops, stats.Packets)
	}
	return err
}

// Stop ends the capture; what was sent before is in the file. It is an error
// when frames were lost. It is safe to call twice.
func (c *Capture) Stop() error {
	c.once.Do(func() {
		err := c.takeNoMore()
		close(c.stop)
		c.err = errors.Join(err, <-c.done, unix.Close(c.fd))
	})
	return c.err
}

// takeNoMore: what comes from now on is not queued, so that the queue comes to an
// end in the middle of traffic, too.
func (c *Capture) takeNoMore() error {
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	err := unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]})
	if err != nil {
		return fmt.Errorf("ending a capture: %w", err)
	}
	return nil
}
