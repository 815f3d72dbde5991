package userspace

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// napTime is how long a loop that carried packets waits for more before it sleeps.
// Between two bundles of a flow it is some ten microseconds, for which the
// scheduler's monitor would wake every 20 to look after the sleeper. Garbage
// collection waits for the rest of it at most.
const napTime = 100 * time.Microsecond

// poll is poll(2) with a timeout in milliseconds, -1 for none. A wait without one
// begins with a nap.
func (l *loop) poll(set []unix.PollFd, timeout int) error {
	if timeout < 0 && l.carried {
		l.carried = false
		if ready, err := nap(set); ready > 0 || err != nil {
			return err
		}
	}
	if timeout < 0 && l.parker != nil {
		err := l.parker.wait(set)
		if err == nil || errors.Is(err, unix.EINTR) {
			return err
		}
		// The scheduler can't wait for it, for want of watches perhaps.
		l.parker.close()
		l.parker = nil
	}
	_, err := unix.Poll(set, timeout)
	return err
}

// nap polls for napTime, without the scheduler, and returns how many descriptors are
// ready.
func nap(set []unix.PollFd) (ready int, err error) {
	left := unix.NsecToTimespec(int64(napTime)) // the call changes it
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(set))), uintptr(len(set)), uintptr(unsafe.Pointer(&left)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
