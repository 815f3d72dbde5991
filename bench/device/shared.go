package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/roamgate/roamgate/control/ikewire"
)

/* Sockets that devices share
 *
 * A process may open fewer files than it can be devices. Devices of a Pool share
 * its sockets: each has a number, which is in the upper bits of every SPI that it
 * chooses, of IKE SAs and of Child SAs, and so in every datagram that comes for it.
 * To a gateway they are many behind one port, which no NAT would do; it tells them
 * apart by SPI as well.
 */

const (
	// numberBits of each SPI are the device's number, which isn't 0.
	numberBits = 20
	// MaxShared is how many devices a Pool has at most, so that a number is found
	// soon.
	MaxShared = 1 << (numberBits - 1)
)

// Pool of sockets.
type Pool struct {
	sockets []Socket
	turn    atomic.Uint64
	strays  atomic.Uint64

	mu      sync.RWMutex
	members map[uint32]*Shared
}

// NewPool opens as many sockets by listen. Errors: those of listen.
func NewPool(listen func() (Socket, error), sockets int) (*Pool, error) {
	p := &Pool{members: make(map[uint32]*Shared)}
	for range sockets {
		s, err := listen()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("socket %d of %d: %w", len(p.sockets)+1, sockets, err), p.Close())
		}
		p.sockets = append(p.sockets, s)
		go p.read(s)
	}
	return p, nil
}

// Close the sockets, when no device uses them any more.
func (p *Pool) Close() error {
	var errs []error
	for _, s := range p.sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Listen gives out the sockets in turn. A device that begins with one stays with
// the pool; when it moves, it gets another one if there are two. Errors: ErrPoolFull.
func (p *Pool) Listen() (Socket, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.members) >= MaxShared {
		return nil, ErrPoolFull
	}
	return &Shared{Socket: p.next(), pool: p}, nil
}

func (p *Pool) next() Socket { return p.sockets[p.turn.Add(1)%uint64(len(p.sockets))] }

// Strays are how many datagrams came for no device, or for one that has moved to
// another socket since.
func (p *Pool) Strays() uint64 { return p.strays.Load() }

// Shared is the part that one device has in a socket.
type Shared struct {
	Socket // closed by the pool only
	pool   *Pool
	number uint32
	take   func(data []byte, from netip.AddrPort)
}

// ReadFromUDPAddrPort isn't called: the pool reads.
func (s *Shared) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, errors.ErrUnsupported
}

// Close gives the number back, unless the device has moved.
func (s *Shared) Close() error {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if s.pool.members[s.number] == s {
		delete(s.pool.members, s.number)
	}
	return nil
}

// join has what comes for a device given to take, on the pool's goroutine and valid
// during the call. A device that moves keeps its number; 0 draws one.
func (s *Shared) join(number uint32, take func(data []byte, from netip.AddrPort)) uint32 {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for number == 0 {
		if number = rand.Uint32N(1 << numberBits); p.members[number] != nil {
			number = 0
		}
	}
	for before := p.members[number]; before != nil && before.Socket == s.Socket && len(p.sockets) > 1; {
		s.Socket = p.next()
	}
	s.number, s.take = number, take
	p.members[number] = s
	return number
}

// Batch is a Socket that gives many datagrams at a time: each to take, and valid
// during the call, until it is closed.
type Batch interface {
	Socket
	Serve(take func(data []byte, from netip.AddrPort)) error
}

func (p *Pool) read(s Socket) {
	take := func(data []byte, from netip.AddrPort) {
		p.mu.RLock()
		m := p.members[numberOf(data)]
		p.mu.RUnlock()
		if m == nil || m.Socket != s {
			p.strays.Add(1)
			return
		}
		m.take(data, from)
	}
	if b, ok := s.(Batch); ok {
		_ = b.Serve(take)
		return
	}
	scratch := make([]byte, maxDatagram)
	for failures := 0; ; {
		n, from, err := s.ReadFromUDPAddrPort(scratch)
		if err != nil {
			if failures++; errors.Is(err, net.ErrClosed) || failures > maxFailures {
				return
			}
			continue
		}
		failures = 0
		take(scratch[:n], from)
	}
}

// numberOf the device that a datagram is for, 0 if it is for none. ESP begins with
// the SPI, and an IKE message without a marker with that of the initiator, who is the
// device: gateways begin nothing on port 500.
func numberOf(data []byte) uint32 {
	if len(data) < 4 {
		return 0
	}
	if spi := binary.BigEndian.Uint32(data); spi != 0 {
		return spi >> (32 - numberBits)
	}
	h, err := ikewire.ParseHeader(data[4:])
	if err != nil {
		return 0
	}
	spi := h.InitiatorSPI
	if h.FromInitiator() {
		spi = h.ResponderSPI
	}
	return uint32(spi >> (64 - numberBits))
}

// number32 and number64 put a device's number into an SPI.
func number32(spi, number uint32) uint32 {
	if number == 0 {
		return spi
	}
	return number<<(32-numberBits) | spi&(1<<(32-numberBits)-1)
}

func number64(spi uint64, number uint32) uint64 {
	if number == 0 {
		return spi
	}
	return uint64(number)<<(64-numberBits) | spi&(1<<(64-numberBits)-1)
}
