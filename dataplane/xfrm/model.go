package xfrm

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
)

// child is an installed Child SA.
type child struct {
	*dataplane.Child // a copy with its own keys; its Path is where it is now
	reqid            uint32

	// Selectors of the policies that it wants: inbound and blocked of its own
	// where the shared ones don't do, outbound while it is active.
	inbound, blocked, outbound []selector
	active                     bool
	activation                 int // order of UseOutbound

	// dead: the kernel has its SAs no more. The counters are the last words.
	dead bool
	// counted is what its present SAs can't say: what others before them
	// carried, and when.
	counted dataplane.ChildCounters
	// retired is the outbound SA before the last move, until nobody can be using
	// it any more; the zero value where there is none. It had sent retiredUsed when
	// its successor went on counting from there.
	retired     stateID
	retiredUsed lifetime
	// quiet is the outer source of which the kernel doesn't tell; the zero
	// AddrPort where it tells of each.
	quiet netip.AddrPort
	// refused are SAs that the kernel didn't take: what is in their place is
	// somebody else's.
	refused    []stateID
	hinted     int64 // when AddressChanged was told, by the backend's clock
	softTold   bool
	dropCounts // of its inbound SA, as they were counted last
}

// inboundID and outboundID are where the kernel has its SAs.
func (c *child) inboundID() stateID { return stateID{c.Path.Local.Addr(), c.Inbound.SPI} }
func (c *child) outboundID() stateID {
	return stateID{c.Path.Remote.Addr(), c.Outbound.SPI}
}

// device holds what the Child SAs of a first virtual address share.
type device struct {
	reqid    uint32
	children int
}

// claim is a policy and who wants it, the one that decides last.
type claim struct {
	holders []*child
	// made: the kernel has it.
	made bool
}

// model is what the kernel is to have. The backend's mutex guards it.
type model struct {
	children  map[dataplane.SPI]*child
	outbounds map[stateID]*child
	retired   map[stateID]*child // by child.retired
	devices   map[netip.Addr]*device
	reqids    map[uint32]struct{}
	nextReqid uint32
	virtual   map[netip.Addr]int // of installed children
	claims    map[policyKey]*claim
	uses      int
}

// Reqids of ours are a range of 2^24, so that an SA of ours is known by it and by
// the interface.
const (
	reqidFirst uint32 = 0x52_000000
	reqidMask  uint32 = 0x00_FFFFFF
	// reqidStep is odd, so that all come in their turn. The kernel's table of SAs
	// is by addresses and reqid, joined by XOR: were they counted, devices with
	// addresses that count, too, would share a place.
	reqidStep = 0x9E3779B1
)

func ourReqid(r uint32) bool { return r&^reqidMask == reqidFirst }

func newModel() model {
	return model{
		children: make(map[dataplane.SPI]*child), outbounds: make(map[stateID]*child), retired: make(map[stateID]*child),
		devices: make(map[netip.Addr]*device), reqids: make(map[uint32]struct{}),
		virtual: make(map[netip.Addr]int), claims: make(map[policyKey]*claim),
	}
}

// vacant refuses places in the kernel's table that another child than own, which
// may be nil, has. The peer chooses the outbound SPI, so that who is behind the
// same address translator can choose that of a neighbour. Errors:
// dataplane.ErrInvalid, wrapped.
func (m *model) vacant(in, out stateID, own *child) error {
	for _, id := range []stateID{in, out} {
		for _, other := range []*child{m.outbounds[id], m.retired[id]} {
			if other != nil && other != own {
				return occupied(id)
			}
		}
	}
	other := m.children[out.spi]
	if in == out || other != nil && other != own && !other.dead && other.inboundID() == out {
		return occupied(out)
	}
	return nil
}

func occupied(id stateID) error {
	return fmt.Errorf("%w: another SA has the SPI %#08x at %v", dataplane.ErrInvalid, uint32(id.spi), id.dst)
}

// add makes a child known, whose places are vacant.
func (m *model) add(c *child) {
	d := m.devices[c.VirtualIPs[0]]
	if d == nil {
		d = &device{reqid: m.drawReqid()}
		m.devices[c.VirtualIPs[0]] = d
	}
	d.children++
	c.reqid = d.reqid
	m.children[c.Inbound.SPI] = c
	m.outbounds[c.outboundID()] = c
	for _, a := range c.VirtualIPs {
		m.virtual[a]++
	}
}

func (m *model) drawReqid() uint32 {
	for {
		r := reqidFirst | m.nextReqid*reqidStep&reqidMask
		m.nextReqid++
		if _, used := m.reqids[r]; !used {
			m.reqids[r] = struct{}{}
			return r
		}
	}
}

// forget is the reverse of add; its claims were released.
func (m *model) forget(c *child) {
	first := c.VirtualIPs[0]
	if d := m.devices[first]; d != nil {
		if d.children--; d.children == 0 {
			delete(m.devices, first)
			delete(m.reqids, d.reqid)
		}
	}
	delete(m.children, c.Inbound.SPI)
	m.dropOutbound(c)
	m.dropRetired(c)
	for _, a := range c.VirtualIPs {
		if m.virtual[a]--; m.virtual[a] == 0 {
			delete(m.virtual, a)
		}
	}
}

func (m *model) dropOutbound(c *child) {
	if m.outbounds[c.outboundID()] == c {
		delete(m.outbounds, c.outboundID())
	}
}

// dropRetired forgets the outbound SA before the last move.
func (m *model) dropRetired(c *child) {
	delete(m.retired, c.retired)
	c.retired = stateID{}
}

// inwardKeys are the policies that let a child's packets in.
func (c *child) inwardKeys() []policyKey {
	var keys []policyKey
	for _, s := range slices.Concat(c.inbound, c.blocked) {
		keys = append(keys, policyKey{dirIn, s}, policyKey{dirFwd, s})
	}
	return keys
}

func (c *child) outwardKeys() []policyKey {
	keys := make([]policyKey, len(c.outbound))
	for i, s := range c.outbound {
		keys[i] = policyKey{dirOut, s}
	}
	return keys
}

// hold puts a child behind the others that want a policy.
func (m *model) hold(c *child, key policyKey) *claim {
	held := m.claims[key]
	if held == nil {
		held = new(claim)
		m.claims[key] = held
	}
	held.release(c)
	held.holders = append(held.holders, c)
	return held
}

func (k *claim) release(c *child) {
	k.holders = slices.DeleteFunc(k.holders, func(h *child) bool { return h == c })
}

// decider is the child that says what is in the policy.
func (k *claim) decider() *child { return k.holders[len(k.holders)-1] }

// policyFor is what the kernel is to have for a claim that somebody holds.
func policyFor(key policyKey, c *child, ifID uint32) policy {
	p := policy{policyKey: key, ifID: ifID, priority: key.sel.priority()}
	switch {
	case key.dir == dirOut:
		p.template = template{src: c.Path.Local.Addr(), dst: c.Path.Remote.Addr(), spi: c.Outbound.SPI, reqid: c.reqid}
	case slices.Contains(c.blocked, key.sel):
		p.block, p.priority = true, priorityBlock
	default:
		p.template = template{reqid: c.reqid}
	}
	return p
}
