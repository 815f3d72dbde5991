package session

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/dataplane"
)

const (
	receiveBatch  = 32
	maxDatagram   = 65535
	answerBuffer  = 64
	receiveRetry  = 100 * time.Millisecond
	receiveErrors = 10
)

// packet is a message that passed the gate. Its data is a copy of its own,
// which the machine may keep.
type packet struct {
	header        gate.Header
	data          []byte
	local, remote netip.AddrPort
	marker        bool
}

// receive reads until the transport is closed, which it reports, or quit.
func (s *Server) receive(quit <-chan struct{}) error {
	buffers := make([]byte, receiveBatch*maxDatagram)
	batch := make([]dataplane.Datagram, receiveBatch)
	answer := make([]byte, answerBuffer)
	failed := 0
	for {
		for i := range batch {
			batch[i].Data = buffers[i*maxDatagram : (i+1)*maxDatagram : (i+1)*maxDatagram]
		}
		n, err := s.transport.Receive(batch)
		select {
		case <-quit:
			return nil
		default:
		}
		now := time.Now()
		s.gate.Press(s.work.wait() >= cookieWait)
		for i := range batch[:n] {
			s.admitMessage(now, &batch[i], answer)
		}
		switch {
		case err == nil:
			failed = 0
			continue
		case errors.Is(err, dataplane.ErrClosed):
			return err
		}
		if failed++; failed == receiveErrors {
			return err
		}
		s.log.Warn("receiving IKE messages failed", slog.Any("error", err))
		select {
		case <-quit:
			return nil
		case <-time.After(receiveRetry):
		}
	}
}

// admitMessage has the gate look at a message and does what it says.
func (s *Server) admitMessage(now time.Time, d *dataplane.Datagram, answer []byte) {
	res := s.gate.Check(now, d.Remote, d.Data, answer)
	if res.Verdict == gate.Answer && res.Header.Init && s.waits(d, res.Header) {
		res = gate.Result{Verdict: gate.Pass, Header: res.Header}
	}
	if res.Reason != gate.ReasonNone {
		s.stats.gateDrop(res.Reason)
	}
	switch res.Verdict {
	case gate.Drop:
	case gate.Answer:
		s.sendUnprotected(dataplane.Datagram{Data: res.Answer, Local: d.Local, Remote: d.Remote, Marker: d.Marker})
	case gate.Pass:
		s.route(now, d, res.Header)
	}
}

// waits says whether this very message was let in before. Who would be asked for a
// cookie now goes on with another one, and its AUTH would be for that.
func (s *Server) waits(d *dataplane.Datagram, h gate.Header) bool {
	return s.shards[s.initShard(d, h)].newcomers.knows(s.initKeyOf(d.Remote, h.InitiatorSPI, d.Data))
}

// route hands a message to its shard. The receiver is the only one who does, so
// an inbox that has room has it still when the copy is made.
func (s *Server) route(now time.Time, d *dataplane.Datagram, h gate.Header) {
	n := h.SPI() >> 56
	if h.Init {
		n = s.initShard(d, h)
	}
	if n >= uint64(len(s.shards)) {
		s.stats.drop(ReasonUnknownIKESPI)
		s.unknownIKE(now, packet{header: h, data: d.Data, local: d.Local, remote: d.Remote, marker: d.Marker})
		return
	}
	p := packet{header: h, data: d.Data, local: d.Local, remote: d.Remote, marker: d.Marker}
	if h.Init {
		key := s.initKeyOf(d.Remote, h.InitiatorSPI, d.Data)
		if !s.shards[n].newcomers.put(now, p, key.sum) {
			return
		}
	}
	inbox := s.shards[n].inbox
	if len(inbox) == cap(inbox) {
		s.stats.drop(ReasonInboxFull)
		return
	}
	p.data = slices.Clone(d.Data)
	inbox <- p
}

// initShard spreads first messages so that nobody can aim at one shard. Who shows the
// same ticket again comes to the same.
func (s *Server) initShard(d *dataplane.Datagram, h gate.Header) uint64 {
	if h.Resume {
		if ticket := gate.TicketOf(d.Data); ticket != nil {
			return gate.Sum64(&s.initSecret, ticket) % uint64(len(s.shards))
		}
	}
	var b [26]byte
	address := d.Remote.Addr().As16()
	copy(b[:], address[:])
	binary.BigEndian.PutUint16(b[16:], d.Remote.Port())
	binary.BigEndian.PutUint64(b[18:], h.InitiatorSPI)
	return gate.Sum64(&s.initSecret, b[:]) % uint64(len(s.shards))
}

// sendUnprotected sends an answer to a stranger.
func (s *Server) sendUnprotected(d dataplane.Datagram) {
	if n, err := s.transport.Send([]dataplane.Datagram{d}); err != nil || n == 0 {
		s.stats.drop(ReasonSendFailed)
	}
}
