// Package dhcp answers the DHCPINFORM (RFC 2131 section 4.4.3) that Windows,
// and some others, send through the tunnel once it stands: from their virtual
// address to 255.255.255.255 port 67, to ask for the routes, resolvers and
// domain that they don't take from the IKE configuration payload. Windows takes
// the routes of a split tunnel from nowhere else.
//
// The answer is a DHCPACK to the virtual address (RFC 2131 section 4.3.5). It
// assigns nothing: no address, no lease times. It holds what was asked for in
// option 55 and is known here: 6 (DNS), 15 (domain), 44 (WINS), 121 (RFC 3442)
// and 249 (Microsoft's number for the same, [MS-DHCPE] section 2.2.8). All
// other messages are dropped, with a counted reason; nothing is forwarded.
//
// The router of every route is 0.0.0.0, which says that the network is on the
// link (RFC 3442, "Local Subnet Routes"). The tunnel has no other routers, and
// a virtual address has no subnet in which the gateway's could be reached.
// Windows ignores the router and takes its tunnel interface: strongSwan's
// documentation ("Split Routing since Windows 10") gives 0.0.0.0 as well.
//
// What lives here: the codec and [Answer], which are pure, and [Server], which
// has the socket. What doesn't: addresses and routes of the host (package
// link), the lease of virtual addresses (package lease).
//
// What a [Server] needs of the host:
//   - the TUN interface is up, and the pools are routed to it;
//   - Config.Server is an address of the host, best as a /32 on the TUN
//     interface: the answer comes from there. To receive the broadcast the
//     interface needs no address at all;
//   - the gateway's traffic selectors of the Child SA hold 255.255.255.255 for
//     the way in and Config.Server for the way out.
package dhcp
