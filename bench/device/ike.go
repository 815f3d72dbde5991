package device

import (
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// machine is an IKE SA of the device: the one that carries the session, or one
// that was rekeyed and is not forgotten yet.
type machine struct {
	*ike.Machine
	spiI, spiR uint64 // spiR is 0 before it is known
}

// input is one for a machine that waits for its turn.
type input struct {
	m  *machine
	in ike.Input
}

// start makes the first machine.
func (d *Device) start(now time.Time) {
	spi, err := d.newIKESPI()
	if err != nil {
		d.closed(ike.Closed{Reason: ike.CloseInternal, Detail: err.Error()})
		return
	}
	d.current = &machine{Machine: ike.NewInitiator(d.cfg.initiator(d.machine, d.local), spi), spiI: spi}
	d.machines = []*machine{d.current}
	d.info.IKESAs = 1
	d.step(now, d.current, ike.Tick{})
}

// newIKESPI draws one that no machine of ours has.
func (d *Device) newIKESPI() (uint64, error) {
	for {
		var b [8]byte
		if _, err := io.ReadFull(d.cfg.Rand, b[:]); err != nil {
			return 0, err
		}
		spi := number64(binary.BigEndian.Uint64(b[:]), d.number)
		if spi != 0 && !slices.ContainsFunc(d.machines, func(m *machine) bool { return m.spiI == spi || m.spiR == spi }) {
			return spi, nil
		}
	}
}

// find returns the machine that a message is for.
func (d *Device) find(data []byte) *machine {
	h, err := ikewire.ParseHeader(data)
	if err != nil {
		return nil
	}
	for _, m := range d.machines {
		if m.spiI == h.InitiatorSPI && (m.spiR == 0 || m.spiR == h.ResponderSPI) {
			return m
		}
	}
	return nil
}

// step gives a machine an input and carries out what it wants. Outputs are
// valid until the machine's next step only, so answers wait until all outputs
// were seen: called from carryOut, it only queues.
func (d *Device) step(now time.Time, m *machine, in ike.Input) {
	d.inputs = append(d.inputs, input{m, in})
	if d.stepping {
		return
	}
	d.stepping = true
	for len(d.inputs) > 0 {
		next := d.inputs[0]
		d.inputs = d.inputs[1:]
		if !slices.Contains(d.machines, next.m) {
			continue
		}
		for _, o := range next.m.Step(now, next.in) {
			d.carryOut(now, next.m, o)
		}
	}
	d.inputs = nil
	d.stepping = false
}

func (d *Device) carryOut(now time.Time, m *machine, o ike.Output) {
	if d.cfg.Observe != nil {
		d.cfg.Observe(o)
	}
	switch o := o.(type) {
	case ike.Send:
		d.send(o)
	case ike.Work:
		d.compute(now, m, o)
	case ike.AskAdmit:
		d.step(now, m, d.admit(o))
	case ike.Reserve:
		spi, err := d.reserve(o.Hint)
		if err != nil {
			d.step(now, m, ike.ReserveFailed{ID: o.ID, Err: err})
			return
		}
		d.step(now, m, ike.Reserved{ID: o.ID, SPI: spi})
	case ike.ReserveIKE:
		if spi, err := d.newIKESPI(); err == nil {
			d.step(now, m, ike.ReservedIKE{ID: o.ID, SPI: spi})
		}
	case ike.Apply:
		d.apply(now, m, o)
	case ike.Established:
		m.spiR = o.Summary.ResponderSPI
		d.info.State, d.info.Summary, d.info.ChildSAs = Up, o.Summary, 1
		d.news = true
	case ike.Spawned:
		next := &machine{Machine: o.Next, spiI: o.InitiatorSPI, spiR: o.ResponderSPI}
		d.machines = append(d.machines, next)
		if o.Redundant {
			d.step(now, next, ike.Close{Reason: ike.CloseRekeyed})
		}
	case ike.Rekeyed:
		d.rekeyed(o)
		if d.cfg.Tickets {
			// The old ticket stands for keys that are gone.
			d.step(now, d.current, ike.RequestTicket{})
		}
	case ike.ChildUp:
		d.info.ChildSAs++
		d.news = true
	case ike.ChildDown:
		d.news = true
	case ike.Moved:
		d.info.Moves++
		d.news = true
	case ike.TicketReceived:
		d.board.keepTicket(o.Ticket)
	case ike.PeerAddresses:
		d.info.GatewayAddresses = o.Addresses
		d.news = true
	case ike.Closed:
		if !o.Linger {
			d.forget(m)
		}
		if m == d.current && o.Reason == ike.CloseTicketRefused && d.cfg.Ticket != nil {
			d.cfg.Ticket, d.info.TicketRefused = nil, true
			d.start(now)
			return
		}
		if m == d.current {
			d.closed(o)
			d.over = d.over || !o.Linger
		}
	case ike.Forget:
		d.forget(m)
		d.over = d.over || m == d.current
	case ike.Noted:
		d.refused = d.refused || o.Note == ike.NoteMoveRefused
	case ike.KeysDerived, ike.AskLease, ike.AskTicket:
		// What is asked is a responder's.
	}
}

// send: a device that sleeps says nothing; its machines try again.
func (d *Device) send(o ike.Send) {
	if d.asleep {
		return
	}
	d.counters.ikeSent.Add(1)
	if o.Marker {
		d.write(append(make([]byte, 4, 4+len(o.Data)), o.Data...), o.Remote)
		return
	}
	d.write(o.Data, o.Remote)
}

func (d *Device) compute(now time.Time, m *machine, w ike.Work) {
	if d.cfg.Compute == nil {
		d.step(now, m, ike.WorkDone{ID: w.ID, Result: w.Do()})
		return
	}
	d.cfg.Compute(func() {
		done := ike.WorkDone{ID: w.ID, Result: w.Do()}
		_ = d.order(func(now time.Time) { d.step(now, m, done) })
	})
}

func (d *Device) admit(o ike.AskAdmit) ike.Input {
	key, err := d.cfg.Verify(o.ID, o.Chain)
	if err != nil {
		return ike.Refused{Reason: err.Error()}
	}
	return ike.Admitted{Device: "gateway", PublicKey: key}
}

func (d *Device) reserve(hint netip.Addr) (dataplane.SPI, error) {
	if d.cfg.Forward != nil {
		return d.cfg.Forward.Reserve(hint)
	}
	return d.table.reserve(d.cfg.Rand, d.number)
}

func (d *Device) apply(now time.Time, m *machine, o ike.Apply) {
	var errs []error
	if d.cfg.Forward != nil {
		errs = d.cfg.Forward.Apply(o.Changes)
	} else {
		errs = d.table.applyAll(o.Changes)
	}
	var failed error
	for _, err := range errs {
		if err != nil && failed == nil {
			failed = err
		}
	}
	for _, c := range o.Changes {
		if in, ok := c.(dataplane.Install); ok {
			in.Child.EraseKeys()
		}
	}
	d.news = true
	if o.Wait {
		d.step(now, m, ike.Applied{ID: o.ID, Err: failed})
	}
}

func (d *Device) rekeyed(o ike.Rekeyed) {
	for _, m := range d.machines {
		if m.Machine == o.Next {
			d.current = m
			d.info.Summary.InitiatorSPI, d.info.Summary.ResponderSPI, d.info.Summary.IKE = m.spiI, m.spiR, o.IKE
		}
	}
	d.info.IKESAs++
	d.news = true
}

func (d *Device) forget(m *machine) {
	d.machines = slices.DeleteFunc(d.machines, func(other *machine) bool { return other == m })
}

// closed: the session is over, though the device may answer the peer's
// retransmissions for a while.
func (d *Device) closed(o ike.Closed) {
	d.info.State = Ended
	d.info.Closed = &ClosedError{Reason: o.Reason, Detail: o.Detail}
	d.news = true
	d.over = d.over || d.current == nil
}
