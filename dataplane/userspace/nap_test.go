package userspace

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNap: it ends with its time, or with what it waits for, and what there is is
// told as by poll.
func TestNap(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	l := &loop{carried: true}
	began := time.Now()
	for {
		ready, err := nap(set)
		if errors.Is(err, unix.EINTR) {
			began = time.Now()
			continue
		}
		if ready != 0 || err != nil {
			t.Fatalf("%d ready, %v", ready, err)
		}
		break
	}
	if took := time.Since(began); took < napTime {
		t.Errorf("it ended after %v", took)
	}
	if err := l.poll(set, 0); err != nil || !l.carried {
		t.Errorf("a look without waiting: %v, and the next wait begins with a nap: %v", err, l.carried)
	}
	unix.Write(fd, wakeCall)
	for _, carried := range []bool{true, false} {
		l.carried = carried
		set[0].Revents = 0
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = l.poll(set, -1)
		}
		if err != nil || set[0].Revents != unix.POLLIN || l.carried {
			t.Errorf("carried %v: %v, events %x, carried %v", carried, err, set[0].Revents, l.carried)
		}
	}
}
