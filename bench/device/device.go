package device

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/ike"
)

// minWait keeps a machine whose deadline doesn't move from spinning the owner.
const minWait = 10 * time.Millisecond

// Device is a client that connects once. Its methods may be called from any
// goroutine; to connect again, make another.
type Device struct {
	cfg     Config
	machine *ike.Config

	backlog  backlog
	unread   sync.Once
	inner    chan []byte   // see received
	done     chan struct{} // closed when the device has ended
	board    board
	counters counters

	// owner guards what follows. Who has it does what others have left in the
	// backlog meanwhile, see disown.
	owner      sync.Mutex
	socket     Socket
	number     uint32         // of a device that shares sockets, see Pool; 0: its own
	local      netip.AddrPort // what the device takes for its address
	natt       netip.AddrPort // of the gateway, for ESP in UDP
	machines   []*machine
	current    *machine // carries the session
	inputs     []input  // for machines, see step
	stepping   bool
	table      table
	info       Info
	news       bool // info changed
	asleep     bool
	over       bool
	ended      bool // over, and nothing is left to do
	refused    bool // a move, by a machine
	lastSent   time.Time
	timer      *time.Timer
	armed      time.Time
	pings      map[pingKey]chan<- struct{}
	pingNumber uint16
}

// New makes a device that does nothing before Connect. Errors: ErrConfig.
func New(cfg Config) (*Device, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	machine, err := cfg.machine()
	if err != nil {
		return nil, err
	}
	return &Device{cfg: cfg, machine: machine, done: make(chan struct{})}, nil
}

// Connect opens the socket, and returns when packets can be sent. If ctx ends
// before, the device vanishes. Errors: ErrState if it was called before, those
// of Listen and Rand, *ClosedError, ctx.Err.
func (d *Device) Connect(ctx context.Context) (Info, error) {
	if err := d.begin(); err != nil {
		return d.Info(), err
	}
	info, err := d.Await(ctx, up)
	if err != nil && ctx.Err() != nil {
		d.Vanish()
	}
	return info, err
}

// Start is Connect for who doesn't wait: then is called once, on any goroutine and by
// the rules of Config.Deliver, when packets can be sent or the device has ended.
// Errors, after which then is not called: ErrState if the device was connected before,
// those of Listen.
func (d *Device) Start(then func(Info)) error {
	if err := d.begin(); err != nil {
		return err
	}
	d.board.join(&waiter{condition: up, tell: then})
	return nil
}

func up(i Info) bool { return i.State == Up }

// begin is the one Connect's, up to its first message.
func (d *Device) begin() error {
	d.owner.Lock()
	defer d.disown()
	if d.ended || d.info.State != Idle {
		return fmt.Errorf("%w: connected before", ErrState)
	}
	socket, err := d.cfg.Listen()
	if err != nil {
		return err
	}
	d.info.State = Connecting
	d.natt = d.cfg.GatewayNATT
	d.use(socket)
	d.local = d.info.Local
	d.start(time.Now())
	if d.cfg.TUN != nil {
		go d.fromTUN()
	}
	return nil
}

// disown ends a turn: what came meanwhile is done, what changed is published, and
// who comes next may have the device.
func (d *Device) disown() {
	for {
		d.catchUp()
		switch {
		case d.ended:
		case d.over:
			d.ended = true
			if d.timer != nil {
				d.timer.Stop()
			}
			d.owner.Unlock()
			d.end()
			return
		default:
			d.publish()
			d.arm(time.Now())
		}
		d.owner.Unlock()
		// Who came since the look at the backlog found the device taken, and relies
		// on this one.
		if d.backlog.waiting.Load() == 0 || !d.owner.TryLock() {
			return
		}
	}
}

// end leaves nothing behind but what waits for Receive. Whoever hears of it may
// listen at the same address. Nobody changes anything any more.
func (d *Device) end() {
	_ = d.socket.Close()
	d.info.State = Ended
	d.news = true
	d.publish()
	close(d.done)
}

// use goes on with a socket. Its address is published; what the device takes
// for its own is up to the caller.
func (d *Device) use(s Socket) {
	before := d.socket
	d.socket = s
	natt := d.natt
	if shared, ok := s.(*Shared); ok {
		d.number = shared.join(d.number, func(data []byte, from netip.AddrPort) { d.arrived(data, from, natt) })
	} else {
		go d.readFrom(s, natt)
	}
	d.info.Local = addrPort(s.LocalAddr())
	d.news = true
	if before != nil {
		_ = before.Close()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		return unmap(u.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// publish shows what changed.
func (d *Device) publish() {
	if !d.news {
		return
	}
	d.news = false
	d.info.Asleep = d.asleep
	d.info.Children, d.info.Child = d.table.installed(), 0
	if c := d.table.out; c != nil {
		d.info.Child = c.inbound
	}
	d.board.publish(d.info)
}

// deadline is when the owner has something to do by itself; zero is never.
func (d *Device) deadline() (at time.Time) {
	if d.asleep {
		return at
	}
	for _, m := range d.machines {
		if t := m.Deadline(); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if t := d.keepaliveAt(); !t.IsZero() && (at.IsZero() || t.Before(at)) {
		at = t
	}
	return at
}

func (d *Device) keepaliveAt() (at time.Time) {
	if d.info.State != Up || d.cfg.Keepalive < 0 {
		return at
	}
	return d.lastSent.Add(d.cfg.Keepalive)
}

// arm sets the timer. A deadline that moved away is found out when it fires:
// keepalives do so with each packet.
func (d *Device) arm(now time.Time) {
	at := d.deadline()
	if at.IsZero() {
		return
	}
	if soonest := now.Add(minWait); at.Before(soonest) && !at.After(now) {
		at = soonest
	}
	if d.armed.IsZero() || at.Before(d.armed) {
		d.armed = at
		if d.timer == nil {
			d.timer = time.AfterFunc(at.Sub(now), d.alarm)
			return
		}
		d.timer.Reset(at.Sub(now))
	}
}

func (d *Device) alarm() {
	d.owner.Lock()
	defer d.disown()
	d.armed = time.Time{}
	if !d.over {
		d.tick(time.Now())
	}
}

func (d *Device) tick(now time.Time) {
	if d.asleep {
		return
	}
	for _, m := range append([]*machine(nil), d.machines...) {
		if t := m.Deadline(); !t.IsZero() && !t.After(now) {
			d.step(now, m, ike.Tick{})
		}
	}
	if at := d.keepaliveAt(); !at.IsZero() && !at.After(now) {
		d.counters.keepalives.Add(1)
		if !d.write([]byte{0xff}, d.natt) {
			d.lastSent = now // not again at once
		}
	}
}
