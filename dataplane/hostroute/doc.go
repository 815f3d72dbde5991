// Package hostroute offers the addresses of connected devices to a routing
// daemon: while a device has a Child SA here, a routing table of the kernel has a
// host route for each of its addresses. bird and others learn such routes from the
// table and announce them, so that the networks inside find a device at whatever
// gateway it is connected to, although it has the same address at each of them.
//
// The routes are changed by one goroutine, behind the device's handshake: a
// routing table that refuses holds back no session. They lead into the tunnel's
// interface and go with it, so that a crash leaves nothing to take back.
//
// What doesn't live here: the routes of whole pools, by which this host finds its
// devices (package link), and the routing daemon.
package hostroute
