package tun

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const clonePath = "/dev/net/tun"

// Offloads that the Segmenter can undo. TSO_ECN: the kernel hands over
// super-packets with CWR too. USO exists from Linux 6.2 on and only as a pair.
const (
	offloadTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// Config of a device.
type Config struct {
	// Name of the interface, at most 15 octets. A "%d" in it is replaced by the
	// kernel; an empty name is "tun%d".
	Name string
	// MTU in octets; 0 leaves the kernel's default of 1,500.
	MTU int
}

// Device is one queue of a TUN device. Read and Write may be called at the same
// time; Close must not overlap with either.
type Device struct {
	fd     int
	name   string
	uso    bool
	closed atomic.Bool
	counts counts
}

// Create makes a TUN interface, which exists until Close, and is down until
// someone brings it up. It needs CAP_NET_ADMIN.
func Create(c Config) (*Device, error) {
	queues, err := CreateQueues(c, 1)
	if err != nil {
		return nil, err
	}
	return queues[0], nil
}

// CreateQueues makes a TUN interface with n queues, which exists until all of
// them are closed. The kernel chooses among the queues by flow, unless it is told
// otherwise (TUNSETSTEERINGEBPF); their numbers are those of the result.
func CreateQueues(c Config, n int) (queues []*Device, err error) {
	for range n {
		d, err := open(c, n > 1)
		if err != nil {
			for _, d := range queues {
				d.Close()
			}
			return nil, err
		}
		queues = append(queues, d)
		c = Config{Name: d.name}
	}
	return queues, nil
}

func open(c Config, multi bool) (*Device, error) {
	if len(c.Name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("TUN %q: name is longer than %d octets", c.Name, unix.IFNAMSIZ-1)
	}
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", clonePath, err)
	}
	d := &Device{fd: fd}
	if err := d.configure(c, multi); err != nil {
		d.counts.close()
		unix.Close(fd)
		return nil, fmt.Errorf("TUN %q: %w", c.Name, err)
	}
	return d, nil
}

func (d *Device) configure(c Config, multi bool) error {
	ifr, err := unix.NewIfreq(c.Name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(d.fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	d.name = ifr.Name()
	d.counts.open()
	if err := unix.IoctlSetPointerInt(d.fd, unix.TUNSETVNETHDRSZ, HeaderLen); err != nil {
		return fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	if err := unix.IoctlSetPointerInt(d.fd, unix.TUNSETVNETLE, 1); err != nil {
		return fmt.Errorf("TUNSETVNETLE: %w", err)
	}
	err = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloadTCP|offloadUDP)
	d.uso = err == nil
	if errors.Is(err, unix.EINVAL) {
		err = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloadTCP)
	}
	if err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	return d.settings(c)
}

// queueLen is how many frames wait for a reader. The kernel's default, 500, is
// 2.5 ms of 200,000 packets a second, and a loop that shares its processor is kept
// waiting for longer; it is what network cards have. More would delay what waits
// behind super-packets: these are 64 MiB of them, in each queue.
const queueLen = 1000

// settings of the interface.
func (d *Device) settings(c Config) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	set := func(request uint, value int) error {
		ifr, err := unix.NewIfreq(d.name)
		if err != nil {
			return err
		}
		ifr.SetUint32(uint32(value))
		return unix.IoctlIfreq(s, request, ifr)
	}
	// Without it everything works, too.
	_ = set(unix.SIOCSIFTXQLEN, queueLen)
	if c.MTU == 0 {
		return nil
	}
	if err := set(unix.SIOCSIFMTU, c.MTU); err != nil {
		return fmt.Errorf("MTU %d: %w", c.MTU, err)
	}
	return nil
}

// FD is the non-blocking descriptor, for poll. It stays the device's.
func (d *Device) FD() int { return d.fd }

// Name of the interface.
func (d *Device) Name() string { return d.name }

// Read stores one frame, virtio header first, in p and returns its length; p
// should have room for MaxFrame. When there is none it returns unix.EAGAIN.
//
// The system call is raw: it can't block, so the scheduler need not know of it.
func (d *Device) Read(p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Write hands one frame, virtio header first, to the kernel. It returns the
// kernel's error as it is: unix.EAGAIN when it has no room, unix.EIO when the
// interface is down, unix.EINVAL when header and packet don't agree.
func (d *Device) Write(p []byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return errno
	}
	return nil
}

// WriteVector is Write for a frame in parts.
func (d *Device) WriteVector(parts []unix.Iovec) error {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(parts))), uintptr(len(parts)))
	if errno != 0 {
		return errno
	}
	return nil
}

// USO says that UDP super-packets go both ways: Linux 6.2 and above.
func (d *Device) USO() bool { return d.uso }

// Close removes the interface. It is safe to call twice.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.counts.close()
	return unix.Close(d.fd)
}
