package traffic

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Pings are ICMP echo requests that are sent one after the other, whether they are
// answered or not.
type Pings struct {
	conn  net.PacketConn
	echo  echo
	to    netip.Addr
	ended chan struct{}
	over  chan struct{}
	once  sync.Once // closes over

	mu   sync.Mutex
	sent []time.Time
	back map[int]time.Time // by the index of what was sent
}

// StartPings sends an echo request each so often, 65,536 at most.
func StartPings(from *netns.Namespace, source, to netip.Addr, every time.Duration) (*Pings, error) {
	network, e := "ip4:icmp", echo4
	if to.Is6() {
		network, e = "ip6:ipv6-icmp", echo6
	}
	conn, err := from.ListenPacket(network, source)
	if err != nil {
		return nil, err
	}
	p := &Pings{conn: conn, echo: e, to: to, ended: make(chan struct{}), over: make(chan struct{}), back: map[int]time.Time{}}
	go p.send(every)
	go p.receive()
	return p, nil
}

// id tells them from those of Ping.
func (p *Pings) id() uint16 { return uint16(os.Getpid()) ^ 0x8000 }

func (p *Pings) send(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := range 1 << 16 {
		request, err := p.echo.request(p.id(), uint16(n), 56)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.sent = append(p.sent, time.Now())
		p.mu.Unlock()
		// What the path refuses is one that isn't answered.
		_, _ = p.conn.WriteTo(request, &net.IPAddr{IP: p.to.AsSlice()})
		select {
		case <-p.over:
			return
		case <-tick.C:
		}
	}
}

func (p *Pings) receive() {
	defer close(p.ended)
	b := make([]byte, 65536)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			return
		}
		now := time.Now()
		p.mu.Lock()
		for i := len(p.sent) - 1; i >= 0; i-- {
			request, err := p.echo.request(p.id(), uint16(i), 56)
			if err == nil && p.echo.isReply(b[:n], request) {
				if _, twice := p.back[i]; !twice {
					p.back[i] = now
				}
				break
			}
		}
		p.mu.Unlock()
	}
}

// Answered says how many were sent and answered from a moment on, but for those of
// the last half second, which are on their way.
func (p *Pings) Answered(since time.Time) (sent, answered int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := time.Now().Add(-500 * time.Millisecond)
	for i, at := range p.sent {
		if at.Before(since) || at.After(last) {
			continue
		}
		sent++
		if _, ok := p.back[i]; ok {
			answered++
		}
	}
	return sent, answered
}

// FirstAnswer is when the first answer came at or after a moment, the zero Time if
// none did, and when its request had been sent.
func (p *Pings) FirstAnswer(since time.Time) (sent, back time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, at := range p.sent {
		if b, ok := p.back[i]; ok && !b.Before(since) && (back.IsZero() || b.Before(back)) {
			sent, back = at, b
		}
	}
	return sent, back
}

// Enough: no more are sent, and answers are still taken.
func (p *Pings) Enough() { p.once.Do(func() { close(p.over) }) }

// Stop ends them.
func (p *Pings) Stop() {
	p.Enough()
	p.conn.Close()
	<-p.ended
}
