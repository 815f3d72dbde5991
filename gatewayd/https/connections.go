package https

import (
	"net"
	"net/netip"
	"sync"
)

// source is who shares limits: a prefix of the other side.
type source netip.Prefix

// Bits of a source.
const (
	bits4 = 24
	bits6 = 48
)

func sourceOf(a netip.Addr) source {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return source{}
	}
	return source(p)
}

// Source of a request or connection by its remote address, as net/http has it;
// invalid where it is none.
func Source(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// looked is how many connections are looked at for one that gives up its place.
const looked = 8

// connections is a listener that bounds how many there are.
type connections struct {
	net.Listener
	server *Server

	mu       sync.Mutex
	open     map[*conn]struct{}
	bySource map[source]int
}

type conn struct {
	net.Conn
	from source
	gate *connections
	once sync.Once
}

// Accept returns the next connection that may stay.
func (c *connections) Accept() (net.Conn, error) {
	for {
		raw, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := c.admit(raw); admitted != nil {
			return admitted, nil
		}
		abort(raw)
	}
}

func (c *connections) admit(raw net.Conn) net.Conn {
	limits := c.server.limits.Load()
	from := sourceOf(Source(raw.RemoteAddr().String()))
	made, evicted := c.place(raw, from, limits)
	if evicted != nil {
		c.server.stats.evicted.Add(1)
		abort(evicted.Conn)
		_ = evicted.Close()
	}
	if made == nil {
		c.server.stats.refused.Add(1)
		return nil
	}
	c.server.stats.accepted.Add(1)
	return made
}

// place takes one for a connection, if need be another's.
func (c *connections) place(raw net.Conn, from source, limits *Limits) (made, evicted *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySource[from] >= limits.PerSource {
		return nil, nil
	}
	if len(c.open) >= limits.Connections {
		if evicted = c.largest(); evicted == nil || c.bySource[evicted.from] <= c.bySource[from] {
			return nil, nil
		}
		c.forget(evicted)
	}
	made = &conn{Conn: raw, from: from, gate: c}
	c.open[made] = struct{}{}
	c.bySource[from]++
	return made, evicted
}

// largest of some connections, by how many its source has. A map is walked in
// random order, so whoever has most is found soon.
func (c *connections) largest() *conn {
	var found *conn
	n := 0
	for k := range c.open {
		if found == nil || c.bySource[k.from] > c.bySource[found.from] {
			found = k
		}
		if n++; n == looked {
			break
		}
	}
	return found
}

func (c *connections) forget(k *conn) {
	if _, ok := c.open[k]; !ok {
		return
	}
	delete(c.open, k)
	if c.bySource[k.from]--; c.bySource[k.from] == 0 {
		delete(c.bySource, k.from)
	}
}

// Close gives the place back.
func (k *conn) Close() error {
	err := net.ErrClosed
	k.once.Do(func() {
		k.gate.mu.Lock()
		k.gate.forget(k)
		k.gate.mu.Unlock()
		err = k.Conn.Close()
	})
	return err
}

// abort closes without waiting for the other side.
func abort(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
