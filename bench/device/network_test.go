package device

import (
	"net"
	"net/netip"
	"sync"
)

// network is a wire in memory: sockets at addresses, and a rule that says what
// gets lost. It blocks on channels only, so it may live in a synctest bubble.
type network struct {
	mu    sync.Mutex
	hosts map[netip.AddrPort]*endpoint
	lose  func(from, to netip.AddrPort, data []byte) bool
}

func newNetwork() *network { return &network{hosts: make(map[netip.AddrPort]*endpoint)} }

// rule sets what gets lost; nil loses nothing.
func (n *network) rule(lose func(from, to netip.AddrPort, data []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = lose
}

// endpoint is a Socket.
type endpoint struct {
	net    *network
	addr   netip.AddrPort
	queue  chan frame
	closed chan struct{}
	once   sync.Once
}

type frame struct {
	from netip.AddrPort
	data []byte
}

var _ Socket = (*endpoint)(nil)

func (n *network) listen(addr netip.AddrPort) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &endpoint{net: n, addr: addr, queue: make(chan frame, 1024), closed: make(chan struct{})}
	n.hosts[addr] = e
	return e
}

// listener gives out sockets of a host, each on the next port.
func (n *network) listener(host string) func() (Socket, error) {
	next := netip.AddrPortFrom(netip.MustParseAddr(host), 40000)
	return func() (Socket, error) {
		next = netip.AddrPortFrom(next.Addr(), next.Port()+1)
		return n.listen(next), nil
	}
}

func (e *endpoint) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	e.net.mu.Lock()
	host := e.net.hosts[to]
	lost := e.net.lose != nil && e.net.lose(e.addr, to, b)
	e.net.mu.Unlock()
	if host != nil && !lost {
		select {
		case host.queue <- frame{e.addr, append([]byte(nil), b...)}:
		default:
		}
	}
	return len(b), nil
}

func (e *endpoint) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case f := <-e.queue:
		return copy(b, f.data), f.from, nil
	case <-e.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (e *endpoint) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(e.addr) }

func (e *endpoint) Close() error {
	e.once.Do(func() {
		close(e.closed)
		e.net.mu.Lock()
		defer e.net.mu.Unlock()
		if e.net.hosts[e.addr] == e { // not who came after
			delete(e.net.hosts, e.addr)
		}
	})
	return nil
}
