package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
)

// Errors.
var (
	// ErrUnavailable: this kernel, or this user, can't have the table.
	ErrUnavailable = errors.New("nftables can't be used")
	// ErrClosed: after Close.
	ErrClosed = errors.New("access is closed")
)

// buffer of the netlink socket in octets: a transaction is one message, and
// every part of it is acknowledged.
const buffer = 32 << 20

// Config of a table.
type Config struct {
	// Interface is the name of the TUN or xfrm interface.
	Interface string
	// MaxDevices that are known at once.
	MaxDevices int
}

// Access is a table. Its methods may be called from any goroutine, in the network
// namespace in which it was opened.
type Access struct {
	config Config
	table  *nftables.Table
	maps   [acl.NumDirections][2]*nftables.Set // IPv4, IPv6

	mu      sync.Mutex
	closed  bool
	groups  map[string]*group
	former  map[*group]struct{} // not in force, but devices are still in them
	number  int
	bySPI   map[uint32]*device
	byKey   map[string]*device
	byAddr  map[netip.Addr]*device
	devices int
}

// group that is in force, or was when its devices came into it.
type group struct {
	acl.Group
	number  int
	devices int
	chains  [acl.NumDirections]*nftables.Chain
}

// device is what has the same virtual addresses.
type device struct {
	key       string // acl.Device.Key
	group     *group
	spis      int
	addresses []netip.Addr // but those that another device took over
}

// TableName of an interface's table, of family inet.
func TableName(ifname string) string { return "gatewayd-access-" + ifname }

func connect() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(buffer), c.SetWriteBuffer(buffer))
	}))
}

// transact carries out what f wants, all or nothing.
func transact(f func(*nftables.Conn) error) error {
	c, err := connect()
	if err != nil {
		return err
	}
	if err := f(c); err != nil {
		return err
	}
	return c.Flush()
}

// Open makes the table, in the place of one that an earlier run left. From then
// on no packet passes the interface but those of devices that were added. Errors:
// ErrUnavailable, wrapped.
func Open(c Config) (*Access, error) {
	a := &Access{
		config: c, table: &nftables.Table{Name: TableName(c.Interface), Family: nftables.TableFamilyINet},
		groups: make(map[string]*group), former: make(map[*group]struct{}),
		bySPI: make(map[uint32]*device), byKey: make(map[string]*device), byAddr: make(map[netip.Addr]*device),
	}
	err := transact(func(conn *nftables.Conn) error {
		replace(conn, a.table)
		for d := range acl.NumDirections {
			for v := range acl.NumVerdicts {
				conn.AddObj(&nftables.CounterObj{Table: a.table, Name: counter(d, acl.Verdict(v))})
			}
			if err := a.base(conn, acl.Direction(d)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return a, nil
}

// replace a table, whether it is there or not.
func replace(conn *nftables.Conn, table *nftables.Table) {
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
}

// base chain of a direction: what comes from or goes to the interface is judged
// by the chain of its device's group; what has none is dropped.
func (a *Access) base(conn *nftables.Conn, d acl.Direction) error {
	hook, priority, key := nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, expr.MetaKeyIIFNAME
	if d == acl.Out {
		hook, priority, key = nftables.ChainHookPostrouting, nftables.ChainPriorityConntrackHelper, expr.MetaKeyOIFNAME
	}
	chain := conn.AddChain(&nftables.Chain{
		Name: d.String(), Table: a.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: priority,
	})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, a.config.Interface)
	ours := func(more ...expr.Any) []expr.Any {
		return append([]expr.Any{
			&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		}, more...)
	}
	for i, f := range families {
		set := &nftables.Set{
			Table: a.table, Name: fmt.Sprintf("%v_%s", d, f.name), IsMap: true, KeyType: f.key, DataType: nftables.TypeVerdict,
		}
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		a.maps[d][i] = set
		conn.AddRule(&nftables.Rule{Table: a.table, Chain: chain, Exprs: ours(append(f.only(), f.local(d),
			&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID})...)})
	}
	conn.AddRule(&nftables.Rule{Table: a.table, Chain: chain, Exprs: ours(end(d, acl.VerdictUnknown)...)})
	return nil
}

// Close removes the table. It is safe to call twice.
func (a *Access) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	return Clear(a.config.Interface)
}

// Clear takes back what an earlier run left for an interface of that name. It
// isn't an error if there is nothing, nor if there is no nftables.
func Clear(ifname string) error {
	table := &nftables.Table{Name: TableName(ifname), Family: nftables.TableFamilyINet}
	return absent(transact(func(conn *nftables.Conn) error {
		conn.DelTable(table)
		return nil
	}))
}

// SetGroups puts groups in force, all or, with an error, none of them. Groups
// that are no longer among them stay in force for the devices that are in them,
// and take no others. Errors: those of acl.CheckGroups, ErrClosed, and those of
// the kernel.
func (a *Access) SetGroups(groups []acl.Group) error {
	if err := acl.CheckGroups(groups); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	former := make(map[string]*group, len(a.former))
	for g := range a.former {
		former[g.Name] = g
	}
	next := make(map[string]*group, len(groups))
	number := a.number
	err := transact(func(conn *nftables.Conn) error {
		for _, to := range groups {
			g := a.groups[to.Name]
			if g == nil {
				g = former[to.Name]
			}
			switch {
			case g == nil:
				g = &group{number: number}
				for d := range g.chains {
					g.chains[d] = conn.AddChain(&nftables.Chain{Name: fmt.Sprintf("g%d_%v", number, acl.Direction(d)), Table: a.table})
				}
				number++
			case same(g.List, to.List):
				next[to.Name] = g
				continue
			default:
				for _, chain := range g.chains {
					conn.FlushChain(chain)
				}
			}
			next[to.Name] = g
			for d, chain := range g.chains {
				a.rules(conn, chain, acl.Direction(d), to.List)
			}
		}
		for name, g := range a.groups {
			if next[name] == nil && g.devices == 0 {
				drop(conn, g)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.number = number
	for _, to := range groups {
		next[to.Name].Group = to
		delete(a.former, next[to.Name])
	}
	for name, g := range a.groups {
		if next[name] == nil && g.devices > 0 {
			a.former[g] = struct{}{}
		}
	}
	a.groups = next
	return nil
}

func same(a, b *acl.List) bool {
	return a == nil && b == nil || a != nil && b != nil && slices.Equal(a.Rules(), b.Rules())
}

func drop(conn *nftables.Conn, g *group) {
	for _, chain := range g.chains {
		conn.FlushChain(chain)
		conn.DelChain(chain)
	}
}

// element of a device's address, which leads to its group's chain.
func (a *Access) element(d acl.Direction, addr netip.Addr, g *group) (*nftables.Set, []nftables.SetElement) {
	e := nftables.SetElement{Key: addr.AsSlice()}
	if g != nil {
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.chains[d].Name}
	}
	set := a.maps[d][0]
	if addr.Is6() {
		set = a.maps[d][1]
	}
	return set, []nftables.SetElement{e}
}

// lead an address from one group to another; nil is none.
func (a *Access) lead(conn *nftables.Conn, addr netip.Addr, from, to *group) error {
	var errs []error
	for d := range acl.Direction(acl.NumDirections) {
		if from != nil {
			errs = append(errs, conn.SetDeleteElements(a.element(d, addr, from)))
		}
		if to != nil {
			errs = append(errs, conn.SetAddElements(a.element(d, addr, to)))
		}
	}
	return errors.Join(errs...)
}

// Add makes Child SAs known, each in a transaction, and returns one error for
// each, nil where it did. An SPI that is known gets what is new. Errors:
// acl.ErrGroup, acl.ErrFull, ErrClosed, and those of the kernel.
func (a *Access) Add(devices []acl.Device) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, len(devices))
	for i, d := range devices {
		errs[i] = a.add(d)
	}
	return errs
}

func (a *Access) add(to acl.Device) error {
	if a.closed {
		return ErrClosed
	}
	g := a.groups[to.Group]
	if g == nil {
		return fmt.Errorf("%w: %q", acl.ErrGroup, to.Group)
	}
	key, former := to.Key(), a.bySPI[to.SPI]
	d := former
	if former == nil || former.key != key {
		d = a.byKey[key]
	}
	if d == nil {
		if a.devices >= a.config.MaxDevices {
			return fmt.Errorf("%w: %d devices", acl.ErrFull, a.config.MaxDevices)
		}
		d = &device{key: key}
	}
	err := transact(func(conn *nftables.Conn) error {
		var errs []error
		for _, addr := range to.Addresses {
			var from *group
			if owner := a.byAddr[addr]; owner != nil {
				from = owner.group
			}
			if from != g {
				errs = append(errs, a.lead(conn, addr, from, g))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	for _, addr := range to.Addresses {
		owner := a.byAddr[addr]
		if owner == d {
			continue
		}
		if owner != nil {
			owner.addresses = slices.DeleteFunc(owner.addresses, func(x netip.Addr) bool { return x == addr })
		}
		a.byAddr[addr] = d
		d.addresses = append(d.addresses, addr)
	}
	if former != d {
		a.bySPI[to.SPI] = d
		if d.spis++; d.spis == 1 {
			a.devices++
			if key != "" {
				a.byKey[key] = d
			}
		}
		if former != nil {
			if former.spis--; former.spis == 0 {
				err = a.release([]*device{former})
			}
		}
	}
	return errors.Join(err, a.join(d, g))
}

// join changes the group of a device; its addresses have been led already.
func (a *Access) join(d *device, g *group) error {
	old := d.group
	if d.group = g; g != nil {
		g.devices++
	}
	if old == nil {
		return nil
	}
	old.devices--
	if _, former := a.former[old]; !former || old.devices > 0 {
		return nil
	}
	delete(a.former, old)
	return transact(func(conn *nftables.Conn) error { drop(conn, old); return nil })
}

// Regroup puts the device of a Child SA into another group, from the next packet
// on. Errors: acl.ErrGroup, also for an SPI that isn't known, ErrClosed, and
// those of the kernel.
func (a *Access) Regroup(spi uint32, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, g := a.bySPI[spi], a.groups[name]
	switch {
	case a.closed:
		return ErrClosed
	case g == nil || d == nil:
		return fmt.Errorf("%w: %q for SPI %08x", acl.ErrGroup, name, spi)
	case d.group == g:
		return nil
	}
	err := transact(func(conn *nftables.Conn) error {
		var errs []error
		for _, addr := range d.addresses {
			errs = append(errs, a.lead(conn, addr, d.group, g))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	return a.join(d, g)
}

// Remove forgets Child SAs, and devices with their last one. Unknown SPIs are
// passed over. Errors are those of the kernel.
func (a *Access) Remove(spis []uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	var gone []*device
	for _, spi := range spis {
		d := a.bySPI[spi]
		if d == nil {
			continue
		}
		delete(a.bySPI, spi)
		if d.spis--; d.spis > 0 {
			continue
		}
		gone = append(gone, d)
	}
	return a.release(gone)
}

// release devices that lost their last Child SA.
func (a *Access) release(gone []*device) error {
	for _, d := range gone {
		for _, addr := range d.addresses {
			delete(a.byAddr, addr)
		}
		if a.byKey[d.key] == d {
			delete(a.byKey, d.key)
		}
		a.devices--
	}
	err := transact(func(conn *nftables.Conn) error {
		var errs []error
		for _, d := range gone {
			for _, addr := range d.addresses {
				errs = append(errs, a.lead(conn, addr, d.group, nil))
			}
		}
		return errors.Join(errs...)
	})
	for _, d := range gone {
		err = errors.Join(err, a.join(d, nil))
	}
	return err
}

// Counters of all packets since Open. Errors are those of the kernel.
func (a *Access) Counters() (acl.Counters, error) {
	var all acl.Counters
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return all, ErrClosed
	}
	conn, err := connect()
	if err != nil {
		return all, err
	}
	objects, err := conn.GetNamedObjects(a.table)
	if err != nil {
		return all, err
	}
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		value, ok := named.Obj.(*expr.Counter)
		if !ok {
			continue
		}
		for d := range acl.NumDirections {
			for v := range acl.NumVerdicts {
				if counter(d, acl.Verdict(v)) == named.Name {
					all[d][v] = acl.Count{Packets: value.Packets, Bytes: value.Bytes}
				}
			}
		}
	}
	return all, nil
}

// Available says whether there is nftables for this user, without changing
// anything. Errors: ErrUnavailable, wrapped.
func Available() error {
	conn, err := connect()
	if err == nil {
		_, err = conn.ListTablesOfFamily(nftables.TableFamilyINet)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
