package userspace

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPark: it ends with what it waits for, however often, also if that was there
// before, and for nothing else of its set.
func TestPark(t *testing.T) {
	var fds [2]int
	var all []unix.PollFd
	for i := range fds {
		fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[i] = fd
		all = append(all, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	p, err := newParker(all)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	waited := make(chan error)
	wait := func(set []unix.PollFd) { go func() { waited <- p.wait(set) }() }
	ends := func(what string) {
		t.Helper()
		select {
		case err := <-waited:
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it still waits after 10 s", what)
		}
	}
	goesOn := func(what string) {
		t.Helper()
		select {
		case err := <-waited:
			t.Fatalf("%s: it ended: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	read := make([]byte, 8)
	for range 100 {
		for i, fd := range fds {
			wait(all)
			unix.Write(fd, wakeCall)
			ends("what came")
			if all[i].Revents != unix.POLLIN || all[1-i].Revents != 0 {
				t.Fatalf("descriptor %d: events %x and %x", i, all[0].Revents, all[1].Revents)
			}
			wait(all)
			ends("what was there")
			unix.Read(fd, read)
		}
	}
	wait(all[:1])
	goesOn("nothing came")
	unix.Write(fds[1], wakeCall)
	goesOn("outside of what is waited for")
	unix.Write(fds[0], wakeCall)
	ends("what came at last")
}

// TestParkClosed: a wait ends with its parker.
func TestParkClosed(t *testing.T) {
	p, err := newParker(nil)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() { waited <- p.wait(nil) }()
	p.close()
	select {
	case err := <-waited:
		if err == nil {
			t.Error("it ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits after 10 s")
	}
}
