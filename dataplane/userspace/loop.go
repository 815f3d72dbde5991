package userspace

import (
	"encoding/binary"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/tun"
)

const (
	// batch is how many messages one system call takes, and how many frames of the
	// inside a round takes. A message may be a bundle of datagrams, a frame a
	// super-packet: package encap bounds the ones, sendBatch the others.
	batch = 64
	// sendBatch is how many datagrams a sender holds; a round takes no more frames
	// when there are that many.
	sendBatch = 128
	// commandQueue bounds what waits for a round to end.
	commandQueue = 64
)

// Places in the set that the loop polls; the sockets stand behind them.
const (
	pollWake = iota
	pollInside
	pollSockets
)

// loop carries the packets of its SAs both ways. Its goroutine, run, is the
// only one that touches what stands below "owned"; do brings others in.
//
// A round is: commands, what other loops passed on, a batch of each socket, some frames of the inside, and
// all that came of them sent. A round without work ends in poll, through the
// scheduler's normal path, so that garbage collection need not wait for it, or with
// the scheduler itself (parker); all other system calls are raw, because none of them blocks for longer than napTime.
type loop struct {
	config   Config
	inside   Inside // its queue of the inside device
	locals   locals
	loops    []*loop // all of them, by number
	ikeQueue *ikeQueue
	events   chan<- dataplane.Event
	epoch    time.Time
	commands chan command
	done     chan struct{}

	// ring is filled by other loops.
	ring ring

	// wakeMu keeps wake, an eventfd, open under those who write to it; -1 when
	// it is closed.
	wakeMu sync.RWMutex
	wake   int
	// called is whether anything was put for the loop since it last looked.
	called atomic.Int32

	// alone: there is one processor, also for who takes what the loop hands out.
	alone bool

	// Owned.
	*sadb
	batcher    batcher
	ended      bool // leave after this round
	forwarding bool // false after an export
	polled     bool // pollSet says what can be read
	now        time.Duration
	receiver   *encap.Receiver
	coalescer  *tun.Coalescer
	segmenter  tun.Segmenter
	frame      []byte // one frame from the inside
	scratch    []byte // one segment that doesn't fit through the path
	answer     []byte // a frame back to the inside
	fragments  fragmenter
	pollSet    []unix.PollFd
	parker     *parker // where it is alone
	wakes      [8]byte
	sealed     int    // packets in this round
	passed     uint64 // packets given to other loops
	carried    bool   // packets, since it last slept
	touched    uint32 // see touch
	drops      dataplane.Drops
	unknownSPI bucket
	icmp       bucket
}

type command struct {
	run  func()
	done chan struct{}
}

func newLoop(number int, config Config, ls locals, d *directory, queue *ikeQueue, events chan<- dataplane.Event) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &loop{
		config: config, inside: config.Inside[number], locals: ls, ikeQueue: queue, events: events,
		// A little before now, so that no time of this loop is 0.
		epoch:    config.Now().Add(-time.Second),
		commands: make(chan command, commandQueue),
		wake:     wake, alone: runtime.GOMAXPROCS(0) == 1 && len(config.Inside) == 1,
		done: make(chan struct{}),

		sadb:       newSADB(config.Member, uint8(number), config.MaxChildren, config.ActiveChildren, d),
		batcher:    newBatcher(config.Singly),
		forwarding: true,
		receiver:   encap.NewReceiver(batch),
		coalescer:  tun.NewCoalescer(config.Inside[number], config.Inside[number].USO()),
		frame:      make([]byte, tun.MaxFrame),
		scratch:    make([]byte, tun.MaxFrame),
		answer:     make([]byte, tooBigFrameLen),
		unknownSPI: bucket{interval: 100 * time.Millisecond, burst: 10},
		icmp:       bucket{interval: 10 * time.Millisecond, burst: 50},
	}
	fds := [pollSockets]int{pollWake: wake, pollInside: l.inside.FD()}
	for _, fd := range fds {
		l.pollSet = append(l.pollSet, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for _, at := range ls {
		for _, s := range at.sockets() {
			l.pollSet = append(l.pollSet, unix.PollFd{Fd: int32(s.FD()), Events: unix.POLLIN})
		}
	}
	if l.alone {
		if l.parker, err = newParker(l.pollSet); err != nil {
			unix.Close(wake)
			return nil, err
		}
	}
	return l, nil
}

// do has run called by the loop between two rounds and waits for it. The error
// is ErrClosed where the loop has ended, with run not called.
func (l *loop) do(run func()) error {
	c := command{run: run, done: make(chan struct{})}
	select {
	case l.commands <- c:
	case <-l.done:
		return dataplane.ErrClosed
	}
	l.wakeUp()
	select {
	case <-c.done:
		return nil
	case <-l.done:
	}
	select {
	case <-c.done: // it was the one that ended the loop
		return nil
	default:
		return dataplane.ErrClosed
	}
}

// States of called.
const (
	notCalled int32 = iota
	called
	asleep // and would not see it
)

// wakeUp has the loop look for what was put; it costs a system call only if the loop
// sleeps.
func (l *loop) wakeUp() {
	if l.called.Swap(called) != asleep {
		return
	}
	l.wakeMu.RLock()
	defer l.wakeMu.RUnlock()
	// It fails when 2^64 calls are pending, and after the loop has ended.
	unix.Write(l.wake, wakeCall)
}

// wakeCall is what an eventfd takes for one call. It stands here, as the loop's
// wakes do, because an argument would escape to the heap.
var wakeCall = binary.NativeEndian.AppendUint64(nil, 1)

func (l *loop) closeWake() {
	l.parker.close()
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	unix.Close(l.wake)
	l.wake = -1
}

// run returns after end was called; nobody polls any more.
func (l *loop) run() {
	defer close(l.done)
	defer l.closeWake()
	defer l.ciphers.end()
	for {
		l.ciphers.bury()
		worked := l.runCommands() && !l.polled
		if l.ended {
			return
		}
		l.tick()
		if l.forwarding {
			worked = l.round() || worked
		}
		l.polled = false
		if !worked {
			l.sleep()
		}
	}
}

// round reads what a poll has just found, or all there is. It returns whether more
// is to be expected right away: behind packets there mostly is, behind IKE messages
// there is not.
func (l *loop) round() (worked bool) {
	worked = l.foreign()
	at := pollSockets
	for _, local := range l.locals {
		if l.readable(at) {
			worked = l.inbound(local) || worked
		}
		if at++; local.IKE == nil {
			continue
		}
		if l.readable(at) {
			l.ikeInbound(local)
		}
		at++
	}
	if l.readable(pollInside) {
		worked = l.outbound() || worked
	}
	return worked
}

// readable says whether there may be something at a place of the set.
func (l *loop) readable(at int) bool { return !l.polled || l.pollSet[at].Revents != 0 }

// tick reads the clock, once a round and once a command.
func (l *loop) tick() { l.now = l.config.Now().Sub(l.epoch) }

// runCommands is called with nothing in any sender, so that a command finds
// every sequence number that was used on the wire, and none after it.
func (l *loop) runCommands() (worked bool) {
	for range commandQueue {
		select {
		case c := <-l.commands:
			l.tick()
			c.run()
			close(c.done)
			worked = true
		default:
			return worked
		}
	}
	return worked
}

// sleep waits for input or a command, and notes what can be read.
func (l *loop) sleep() {
	busy := l.alone && l.giveWay()
	l.ciphers.bury()
	if l.ended {
		return
	}
	set := l.pollSet
	if !l.forwarding {
		set = set[:pollWake+1]
	}
	timeout := -1
	if busy || !l.called.CompareAndSwap(notCalled, asleep) {
		timeout = 0
	}
	err := l.poll(set, timeout)
	l.called.Store(notCalled)
	if err != nil {
		return // EINTR; anything else would show in the calls of the next round
	}
	l.polled = true
	if l.pollSet[pollWake].Revents != 0 {
		unix.Read(l.wake, l.wakes[:])
	}
}

// giveWay lets everybody else run who can, and carries out what comes of it. Where
// there is one processor that is what the loop would wait for. Sockets aren't
// left alone for longer than others take for one turn. It returns whether anybody
// did run: then the loop doesn't sleep, for who waits by the scheduler is called
// when nobody else has something to do, or by its monitor after 10 ms.
func (l *loop) giveWay() (busy bool) {
	for began := l.config.Now(); ; {
		before := l.config.Now()
		runtime.Gosched()
		l.called.Store(notCalled)
		now := l.config.Now()
		busy = now.Sub(before) > noTurn
		if !l.runCommands() || l.ended || now.Sub(began) > longTurn {
			return busy
		}
	}
}

const (
	// longTurn is a turn of others after which there may be something in the sockets.
	longTurn = 100 * time.Microsecond
	// noTurn is what giving way takes at most where nobody wants to run.
	noTurn = 5 * time.Microsecond
)

// insideFailed stops polling the inside device once it is gone, which poll
// would report without end.
func (l *loop) insideFailed(err error) {
	if l.pollSet[pollInside].Fd >= 0 {
		l.pollSet[pollInside].Fd = -1
		l.config.Logger.Error("inside device failed", slog.Int("loop", int(l.sadb.loop)), slog.Any("error", err))
	}
}

func (l *loop) drop(r dataplane.Reason) { l.drops[r]++ }

// tell sends an event unless the channel is full; false if it was lost.
func (l *loop) tell(e dataplane.Event) bool {
	select {
	case l.events <- e:
		return true
	default:
		l.drop(dataplane.ReasonEventsLost)
		return false
	}
}

// checkLimits tells about limits that were reached, once each.
func (l *loop) checkLimits(s *sa) {
	if !s.softTold && s.counters.reached(&s.soft) {
		s.softTold = true
		l.tell(dataplane.LimitReached{Inbound: s.spi})
	}
	if !s.hardTold && s.counters.reached(&s.hard) {
		s.hardTold = true
		l.tell(dataplane.LimitReached{Inbound: s.spi, Hard: true})
	}
}

// bucket lets burst events through at once, and one each interval on average.
type bucket struct {
	interval time.Duration
	burst    int
	// full is when the bucket will be full again.
	full time.Duration
}

func (b *bucket) take(now time.Duration) bool {
	full := max(b.full, now) + b.interval
	if full-now > time.Duration(b.burst)*b.interval {
		return false
	}
	b.full = full
	return true
}
