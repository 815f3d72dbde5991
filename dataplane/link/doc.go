// Package link puts in place what the userspace backend needs of the host, and
// takes it back: the TUN interface is brought up, the pools are routed to it,
// packets are forwarded.
//
// Every change is in a journal on disk before the first one is made, with the
// value from before. After a crash, [Recover] takes back what the journal says
// and nothing else: what somebody changed since then is left as it is.
//
// What lives here: interfaces, addresses, routes, sysctls, through netlink and
// /proc/sys. What doesn't: packets, the TUN device itself (package tun), packet
// filters.
//
// All functions act on the network namespace of the calling thread; /proc/sys/net
// shows that one as well. A program that lives in one namespace, as gatewayd
// does, need not care.
package link
