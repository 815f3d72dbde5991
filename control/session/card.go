package session

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// card is what others may know of a session that is up. Its shard alone changes it,
// and holds infos.mu meanwhile, as others do who read it.
type card struct {
	id                         lease.SessionID
	device                     string
	names                      unique.Handle[names]
	initiatorSPI, responderSPI uint64
	remote                     netip.AddrPort
	virtualIPs                 []netip.Addr
	until, established         time.Time
	children                   []keptChild // oldest first; in alone where it is one
	alone                      [1]keptChild
}

// names that many sessions have in common, and which are kept once for all.
type names struct {
	group, ike, auth, client string
	esp                      string // of the newest Child SA there was
	legacy                   string // separated by spaces
	resumed                  bool   // by a ticket
	local                    netip.AddrPort
}

func newCard(id lease.SessionID, established time.Time, u *ike.Summary) card {
	return card{
		id: id, device: u.Device, established: established, until: u.Until,
		names: unique.Make(names{
			group: u.Group, ike: u.IKE, auth: u.Auth, client: u.Client, esp: u.ESP, legacy: strings.Join(u.Legacy, " "),
			resumed: u.Resumed, local: u.Local,
		}),
		initiatorSPI: u.InitiatorSPI, responderSPI: u.ResponderSPI,
		remote: u.Remote, virtualIPs: u.VirtualIPs,
	}
}

// copied is a copy that doesn't change.
func (c *card) copied() card {
	d := *c
	d.children, d.virtualIPs = slices.Clone(c.children), slices.Clone(c.virtualIPs)
	return d
}

func (c *card) add(child keptChild) {
	if c.children == nil {
		c.children = c.alone[:0]
	}
	c.children = append(c.children, child)
}

func (c *card) remove(i int) {
	c.children = slices.Delete(c.children, i, i+1)
	if len(c.children) == 1 {
		c.children = append(c.alone[:0], c.children[0])
	}
}

// name changes names.
func (c *card) name(change func(*names)) {
	n := c.names.Value()
	change(&n)
	c.names = unique.Make(n)
}

// info is the long form, without traffic.
func (c *card) info() Info {
	n := c.names.Value()
	u := ike.Summary{
		Device: c.device, Group: n.group, InitiatorSPI: c.initiatorSPI, ResponderSPI: c.responderSPI,
		IKE: n.ike, Auth: n.auth, Local: n.local, Remote: c.remote, VirtualIPs: c.virtualIPs,
		Until: c.until, Client: n.client, Resumed: n.resumed,
	}
	if n.legacy != "" {
		u.Legacy = strings.Split(n.legacy, " ")
	}
	children := make([]Child, len(c.children))
	for i := range children {
		children[i] = c.children[i].long(c.virtualIPs)
	}
	if len(children) > 0 {
		first := children[0]
		u.Inbound, u.Outbound, u.ESP, u.LocalTS, u.RemoteTS = first.Inbound, first.Outbound, first.ESP, first.LocalTS, first.RemoteTS
	}
	return Info{ID: c.id, Summary: u, Children: children, Established: c.established}
}

// keptChild is a Child as it is kept.
type keptChild struct {
	inbound, outbound dataplane.SPI
	common            unique.Handle[commonChild]
	remote            string // selectors, unless hosts is set
}

// commonChild has selectors as dataplane.AppendSelectors writes them.
type commonChild struct {
	esp, local string
	hosts      bool // the remote selectors are the device's addresses
}

func keepChild(c *Child, virtual []netip.Addr) keptChild {
	common := commonChild{
		esp: c.ESP, local: string(dataplane.AppendSelectors(nil, c.LocalTS)), hosts: slices.Equal(c.RemoteTS, hosts(virtual)),
	}
	k := keptChild{inbound: c.Inbound, outbound: c.Outbound, common: unique.Make(common)}
	if !common.hosts {
		k.remote = string(dataplane.AppendSelectors(nil, c.RemoteTS))
	}
	return k
}

// long is the inverse of keepChild.
func (k *keptChild) long(virtual []netip.Addr) Child {
	common := k.common.Value()
	c := Child{
		Inbound: k.inbound, Outbound: k.outbound, ESP: common.esp,
		LocalTS: dataplane.ReadSelectors([]byte(common.local)), RemoteTS: dataplane.ReadSelectors([]byte(k.remote)),
	}
	if common.hosts {
		c.RemoteTS = hosts(virtual)
	}
	return c
}

// hosts are selectors for single addresses.
func hosts(addresses []netip.Addr) (list []dataplane.Selector) {
	for _, a := range addresses {
		list = append(list, dataplane.Selector{First: a, Last: a, LastPort: 65535})
	}
	return list
}
