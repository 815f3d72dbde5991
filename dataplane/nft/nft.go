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
	"github.com/roamgate/roamgate/bpf/acl/roster"
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

	mu     sync.Mutex
	closed bool
	roster *roster.Table[groupState, struct{}]
	number int // of the next group
}

// group that is in force, or was when its devices came into it.
type (
	group      = roster.Group[groupState]
	groupState struct {
		list   *acl.List
		chains [acl.NumDirections]*nftables.Chain
	}
)

// tableName of an interface's table, of family inet.
func tableName(ifname string) string { return "gatewayd-access-" + ifname }

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
		config: c, table: &nftables.Table{Name: tableName(c.Interface), Family: nftables.TableFamilyINet},
		roster: roster.New[groupState, struct{}](),
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
	table := &nftables.Table{Name: tableName(ifname), Family: nftables.TableFamilyINet}
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
	var next []*group
	number := a.number
	err := transact(func(conn *nftables.Conn) error {
		for _, to := range groups {
			g := a.roster.Find(to.Name)
			switch {
			case g == nil:
				g = &group{Name: to.Name}
				for d := range g.Own.chains {
					g.Own.chains[d] = conn.AddChain(&nftables.Chain{Name: fmt.Sprintf("g%d_%v", number, acl.Direction(d)), Table: a.table})
				}
				number++
			case same(g.Own.list, to.List):
				next = append(next, g)
				continue
			default:
				for _, chain := range g.Own.chains {
					conn.FlushChain(chain)
				}
			}
			next = append(next, g)
			for d, chain := range g.Own.chains {
				a.rules(conn, chain, acl.Direction(d), to.List)
			}
		}
		for _, g := range a.roster.Unused(next) {
			drop(conn, g)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.number = number
	for i, to := range groups {
		next[i].Own.list = to.List
	}
	a.roster.Use(next)
	a.roster.Retire() // those that were dropped above
	return nil
}

func same(a, b *acl.List) bool {
	return a == nil && b == nil || a != nil && b != nil && slices.Equal(a.Rules(), b.Rules())
}

func drop(conn *nftables.Conn, g *group) {
	for _, chain := range g.Own.chains {
		conn.FlushChain(chain)
		conn.DelChain(chain)
	}
}

// element of a device's address, which leads to its group's chain.
func (a *Access) element(d acl.Direction, addr netip.Addr, g *group) (*nftables.Set, []nftables.SetElement) {
	e := nftables.SetElement{Key: addr.AsSlice()}
	if g != nil {
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.Own.chains[d].Name}
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
	a.roster.Settle()
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
	p, err := a.roster.Plan(to)
	if err != nil {
		return err
	}
	if p.New && a.roster.Len() >= a.config.MaxDevices {
		return fmt.Errorf("%w: %d devices", acl.ErrFull, a.config.MaxDevices)
	}
	if err := a.follow(p.Moves); err != nil {
		return err
	}
	a.roster.Commit(p)
	return a.retire()
}

// follow leads addresses to where they are now, in one transaction.
func (a *Access) follow(moves []roster.Move[groupState, struct{}]) error {
	moves = slices.DeleteFunc(moves, func(m roster.Move[groupState, struct{}]) bool { return m.FromGroup == m.ToGroup })
	if len(moves) == 0 {
		return nil
	}
	return transact(func(conn *nftables.Conn) error {
		var errs []error
		for _, m := range moves {
			errs = append(errs, a.lead(conn, m.Address, m.FromGroup, m.ToGroup))
		}
		return errors.Join(errs...)
	})
}

// retire drops former groups in which no device is.
func (a *Access) retire() error {
	gone := a.roster.Retire()
	if len(gone) == 0 {
		return nil
	}
	return transact(func(conn *nftables.Conn) error {
		for _, g := range gone {
			drop(conn, g)
		}
		return nil
	})
}

// Regroup puts the device of a Child SA into another group, from the next packet
// on. Errors: acl.ErrGroup, also for an SPI that isn't known, ErrClosed, and
// those of the kernel.
func (a *Access) Regroup(spi uint32, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	d, g, err := a.roster.Regroup(spi, name)
	if err != nil || d.Group == g {
		return err
	}
	err = transact(func(conn *nftables.Conn) error {
		var errs []error
		for _, addr := range a.roster.Addresses(d) {
			errs = append(errs, a.lead(conn, addr, d.Group, g))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	a.roster.Join(d, g)
	return a.retire()
}

// Remove forgets Child SAs, and devices with their last one. Unknown SPIs are
// passed over. Errors are those of the kernel.
func (a *Access) Remove(spis []uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roster.Settle()
	if a.closed {
		return nil
	}
	_, _, moves := a.roster.Remove(spis)
	return errors.Join(a.follow(moves), a.retire())
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
