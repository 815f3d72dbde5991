package tun

import (
	"bufio"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// countsPath is what the kernel counted of the interfaces of the calling thread's
// namespace (proc_pid_net(5)). An rtnetlink request would say the same, but waits
// for the lock that every change of any namespace's interfaces takes: seconds,
// where namespaces come and go.
const countsPath = "/proc/thread-self/net/dev"

// txDropped is the place of the frames that had no room, among the figures of a
// line: eight of what was received come first.
const txDropped = 11

// counts are the kernel's, of the namespace in which the device was made.
type counts struct {
	file *os.File
	// overflowed is what it said last.
	overflowed atomic.Uint64
}

// open what is read. Where it can't be, nothing is told, and all else works.
func (c *counts) open() { c.file, _ = os.Open(countsPath) }

// Overflowed is how many frames the kernel has dropped before anybody read them,
// for want of room in a queue: all queues of the interface together, a super-packet
// once. It may be called at any time; after Close it says what it last said.
func (d *Device) Overflowed() uint64 {
	now, ok := d.counts.dropped(d.name)
	for ok {
		before := d.counts.overflowed.Load() // or after, if somebody else asked meanwhile
		if before >= now || d.counts.overflowed.CompareAndSwap(before, now) {
			break
		}
	}
	return d.counts.overflowed.Load()
}

// dropped is what the kernel says of an interface; false where it doesn't know it.
func (c *counts) dropped(name string) (uint64, bool) {
	lines := bufio.NewScanner(io.NewSectionReader(c.file, 0, math.MaxInt64))
	for lines.Scan() {
		of, figures, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(of) != name {
			continue
		}
		if f := strings.Fields(figures); len(f) > txDropped {
			n, err := strconv.ParseUint(f[txDropped], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func (c *counts) close() { c.file.Close() }
