package session

import (
	"net/netip"
	"strings"
	"time"
	"unique"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
)

// card is what others may know of a session that is up. It isn't changed once
// it was shown: another one takes its place.
type card struct {
	id                         lease.SessionID
	device                     string
	names                      unique.Handle[names]
	initiatorSPI, responderSPI uint64
	local, remote              netip.AddrPort
	virtualIPs                 []netip.Addr
	until, established         time.Time
	children                   []Child // oldest first
}

// names that many sessions have in common, and which are kept once for all.
type names struct {
	group, ike, auth, client string
	esp                      string // of the newest Child SA there was
	legacy                   string // separated by spaces
	resumed                  bool   // by a ticket
}

func newCard(id lease.SessionID, established time.Time, u *ike.Summary) *card {
	return &card{
		id: id, device: u.Device, established: established, until: u.Until,
		names: unique.Make(names{
			group: u.Group, ike: u.IKE, auth: u.Auth, client: u.Client, esp: u.ESP, legacy: strings.Join(u.Legacy, " "),
			resumed: u.Resumed,
		}),
		initiatorSPI: u.InitiatorSPI, responderSPI: u.ResponderSPI,
		local: u.Local, remote: u.Remote, virtualIPs: u.VirtualIPs,
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
		IKE: n.ike, Auth: n.auth, Local: c.local, Remote: c.remote, VirtualIPs: c.virtualIPs,
		Until: c.until, Client: n.client, Resumed: n.resumed,
	}
	if n.legacy != "" {
		u.Legacy = strings.Split(n.legacy, " ")
	}
	if len(c.children) > 0 {
		first := c.children[0]
		u.Inbound, u.Outbound, u.ESP, u.LocalTS, u.RemoteTS = first.Inbound, first.Outbound, first.ESP, first.LocalTS, first.RemoteTS
	}
	return Info{ID: c.id, Summary: u, Children: c.children, Established: c.established}
}

// shared is a string that equal ones share their octets with.
func shared(s string) string { return unique.Make(s).Value() }
