package userspace

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// parker has the scheduler wait for a loop's descriptors. A poll that blocks holds
// the processor until the runtime's monitor takes it away, and every time that it
// had to it wakes each 20 us for a millisecond: where there is one processor, a
// tenth of what a handshake costs. What the scheduler waits for by itself costs
// nothing of the kind; it can wait for a set (epoll(7)) as for any descriptor.
type parker struct {
	file  *os.File
	conn  syscall.RawConn
	set   []unix.PollFd // of the wait that is under way
	err   error
	ready func(fd uintptr) bool // made once: it would escape
}

// newParker for what is in set.
func newParker(set []unix.PollFd) (*parker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile tells the scheduler
		unix.Close(fd)
		return nil, err
	}
	p := &parker{file: os.NewFile(uintptr(fd), "loop")}
	for _, f := range set {
		if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(f.Fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: f.Fd}); err != nil {
			p.close()
			return nil, err
		}
	}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.close()
		return nil, err
	}
	p.ready = func(uintptr) bool {
		var now unix.Timespec
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p.set))), uintptr(len(p.set)), uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != 0 {
			p.err = errno
			return true
		}
		return n > 0
	}
	return p, nil
}

// wait until something of set, which is what the parker was made for or a part of
// it, can be read.
func (p *parker) wait(set []unix.PollFd) error {
	p.set, p.err = set, nil
	if err := p.conn.Read(p.ready); err != nil {
		return err
	}
	return p.err
}

func (p *parker) close() {
	if p != nil {
		p.file.Close()
	}
}
