package userspace

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// TestMillionPacketsAllocateNothing drives the real loop, both ways in step, and
// counts what the whole process allocates: peer and host don't either.
func TestMillionPacketsAllocateNothing(t *testing.T) { allocateNothing(t, 1_000_000, 1) }

// What is passed on between loops allocates nothing either.
func TestLoopsAllocateNothing(t *testing.T) { allocateNothing(t, 200_000, 2) }

func allocateNothing(t *testing.T, packets, loops int) {
	const (
		window = 64 // of each direction under way at once
		// What the runtime may allocate for itself in that time.
		tolerated = 50
	)
	p := newPeer(t, newHarness(t, make(chan dataplane.Event, 16), withLoops(t, loops)), nil)
	// Packets to the host come from the owner's pipe, those from there go into
	// another's where there is one.
	owner := int(loopOf(p.child.Inbound.SPI))
	p.pipe = p.backend.loops[owner].inside.(*pipe)
	from := p.backend.loops[(owner+1)%loops].inside.(*pipe)
	whole := up4
	whole.DontFragment = true // so that they are joined
	inner := whole.UDP(1, 2, make([]byte, 36))
	frame := append(make([]byte, tun.HeaderLen), down4.UDP(2, 1, make([]byte, 36))...)
	hostPoll := []unix.PollFd{{Fd: int32(p.pipe.host), Events: unix.POLLIN}}
	read := func() {
		for range 1000 {
			if _, err := unix.Read(p.pipe.host, p.pipe.buffer); err == nil {
				return
			}
			unix.Poll(hostPoll, 10)
		}
		t.Fatalf("packets got lost; drops %v", p.backend.Drops())
	}
	step := func() {
		for range window {
			p.queue(inner, protoIPv4, 0)
			if err := from.sendFrame(frame); err != nil {
				t.Fatal(err)
			}
		}
		p.flush()
		for range window {
			read()
		}
		for left := window; left > 0; {
			left -= p.wait(left)
		}
	}
	for range 100 {
		step()
	}

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for range packets / (2 * window) {
		step()
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	allocated := after.Mallocs - before.Mallocs
	t.Logf("%d packets, %d allocations, %.0f packets/s with the peer on the same cores", packets, allocated, float64(packets)/took.Seconds())
	if allocated > tolerated {
		t.Errorf("%d allocations for %d packets, want none", allocated, packets)
	}
	var sum dataplane.ChildCounters
	for c := range p.backend.Counters {
		sum = c
	}
	want := uint64(packets/(2*window)+100) * window
	if joined := p.pipe.super.Load(); joined == 0 {
		t.Error("no packets were joined")
	}
	if passed := p.backend.PassedOn(); loops > 1 && passed < want {
		t.Errorf("%d packets were passed on, want %d at least", passed, want)
	}
	if sum.PacketsIn != want || sum.PacketsOut != want {
		t.Errorf("counters %+v, want %d packets each way", sum, want)
	}
	if drops := p.backend.Drops(); drops != (dataplane.Drops{}) {
		t.Errorf("drops %v", drops)
	}
}
