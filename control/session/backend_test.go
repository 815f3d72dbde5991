package session

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
)

// network is the fake backend with hosts around it, and parts that a test can
// make fail.
type network struct {
	*dptest.Fake

	mu       sync.Mutex
	hosts    map[netip.Addr]chan<- dataplane.Datagram
	lose     func(d dataplane.Datagram) bool   // both ways; called with mu held
	delay    time.Duration                     // of each message
	outside  map[netip.AddrPort]netip.AddrPort // what a NAT makes of hosts
	sent     []dataplane.Datagram              // by the gateway
	unsent   bool                              // the network refuses
	applyErr error                             // of Install
	fullErr  error                             // of Reserve
	groupErr error                             // of Regroup
	hold     chan struct{}                     // Apply waits for it to be closed
	spis     map[dataplane.SPI]netip.Addr      // in use, with the virtual IP once installed
	onRemove func(netip.Addr)                  // virtual IP
}

func newNetwork(events chan<- dataplane.Event) *network {
	return &network{
		Fake:  dptest.NewFake(gatewayIKE.Addr(), events),
		hosts: make(map[netip.Addr]chan<- dataplane.Datagram),
		spis:  make(map[dataplane.SPI]netip.Addr),
	}
}

// set changes what the network does.
func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// send is what a host puts on the wire for the gateway.
func (n *network) send(d dataplane.Datagram) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lose != nil && n.lose(d) {
		return
	}
	if outside, ok := n.outside[d.Local]; ok {
		d.Local = outside
	}
	d.Local, d.Remote = d.Remote, d.Local
	n.travel(func() { n.Deliver(d) })
}

func (n *network) travel(arrive func()) {
	if n.delay == 0 {
		arrive()
		return
	}
	time.AfterFunc(n.delay, arrive)
}

func (n *network) Transport() dataplane.IKETransport { return n }

var errNetwork = errors.New("network is unreachable")

func (n *network) Send(batch []dataplane.Datagram) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unsent {
		return 0, errNetwork
	}
	for _, d := range batch {
		d.Data = slices.Clone(d.Data)
		n.sent = append(n.sent, d)
		host := n.hosts[d.Remote.Addr()]
		for inside, outside := range n.outside {
			if outside == d.Remote {
				host, d.Remote = n.hosts[inside.Addr()], inside
			}
		}
		if host == nil || n.lose != nil && n.lose(d) {
			continue
		}
		d.Local, d.Remote = d.Remote, d.Local
		n.travel(func() { host <- d })
	}
	return len(batch), nil
}

func (n *network) Reserve(hint netip.Addr) (dataplane.SPI, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fullErr != nil {
		return 0, n.fullErr
	}
	spi, err := n.Fake.Reserve(hint)
	if err == nil {
		n.spis[spi] = netip.Addr{}
	}
	return spi, err
}

func (n *network) Apply(changes []dataplane.Change) []error {
	n.mu.Lock()
	hold := n.hold
	n.mu.Unlock()
	if hold != nil {
		<-hold
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, c := range changes {
		errs = append(errs, n.apply(c))
	}
	return errs
}

func (n *network) apply(c dataplane.Change) error {
	install, isInstall := c.(dataplane.Install)
	if isInstall && n.applyErr != nil {
		return n.applyErr
	}
	if _, ok := c.(dataplane.Regroup); ok && n.groupErr != nil {
		return n.groupErr
	}
	if err := n.Fake.Apply([]dataplane.Change{c})[0]; err != nil {
		return err
	}
	if isInstall {
		n.spis[install.Child.Inbound.SPI] = install.Child.VirtualIPs[0]
	}
	if remove, ok := c.(dataplane.Remove); ok {
		if virtual := n.spis[remove.Inbound]; virtual.IsValid() && n.onRemove != nil {
			n.onRemove(virtual)
		}
		delete(n.spis, remove.Inbound)
	}
	return nil
}

// heard makes ESP arrive from the device with this virtual IP.
func (n *network) heard(virtual netip.Addr, now time.Time) {
	n.carry(virtual, func(c *dataplane.ChildCounters) {
		c.LastIn = now
		c.PacketsIn++
		c.BytesIn += 100
	})
}

// said makes ESP go to the device with this virtual IP.
func (n *network) said(virtual netip.Addr, now time.Time) {
	n.carry(virtual, func(c *dataplane.ChildCounters) {
		c.LastOut = now
		c.PacketsOut++
		c.BytesOut += 1000
	})
}

// carry counts a packet of the Child SA that carries those to the virtual IP.
func (n *network) carry(virtual netip.Addr, count func(*dataplane.ChildCounters)) {
	spi, ok := n.Outbound(virtual)
	if child, installed := n.Child(spi); ok && installed {
		count(&child.Counters)
		n.SetCounters(child.Counters)
	}
}

// state is how many SPIs are reserved and how many Child SAs installed.
func (n *network) state() (reserved, installed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, virtual := range n.spis {
		if virtual.IsValid() {
			installed++
		} else {
			reserved++
		}
	}
	return reserved, installed
}

func (n *network) sentTo(a netip.Addr) (out []dataplane.Datagram) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.sent {
		if d.Remote.Addr() == a {
			out = append(out, d)
		}
	}
	return out
}
