// Package lease is the registry of virtual IPs (leases) and of each device's
// current session. It is the only owner of addresses: nobody else decides who
// has one.
//
// # Which address
//
// A device keeps its address over reconnects and restarts. A request is
// answered with the first of these that exists:
//
//  1. the address that the device has, if it lies in the pools and the device
//     has a live session, asks for no other address that is free, or got one
//     that it asked for within the last hour;
//  2. the address it asks for (Want), if that is free;
//  3. an address never assigned, lowest first, pool by pool;
//  4. a free address, that which is unused longest first. An address becomes
//     free when its device is released or moves to another one;
//  5. an address that was free for so long that it was forgotten: 65,536 of a
//     family are remembered;
//  6. the address of an idle device, that which is unused longest first. Want
//     has no say in this, so that nobody can pick whose address is taken.
//
// Otherwise the answer is [ErrExhausted]. The address of a device with a live
// session is never given to another device.
//
// A request that is Entitled brings an address along that the gateways gave the
// device before: the hour in rule 1 doesn't count for it. This is how a device keeps its address at a second gateway: gateways that share their devices
// hand out disjoint pools and name each other's as Neighbours, so that an
// address has one gateway that gives it out, and others take it over from the
// device that has it. A neighbour's address counts as one outside the pools.
//
// Network and broadcast address of IPv4 pools shorter than /31, the
// subnet-router anycast address (RFC 4291 section 2.6.1) of IPv6 pools shorter
// than /127, and excluded addresses are not handed out.
//
// When the pools change, a lease that lies outside them goes on while its
// session does. It is not forgotten after that, so that pools that come back
// bring the leases back; but the device's next connect gives it another
// address, and nobody else gets that one.
//
// # Which session
//
// A device has one current session. A request makes the asking session the
// current one, and the one before it is reported in [Grant.Displaced], once,
// for the caller to close.
//
// # What is on disk
//
// An answer is given after the assignment it reports is on disk. Requests that
// wait together share one transaction; a reconnect that changes no assignment
// causes none. When an address was last used is written in batches, every
// Config.SaveInterval and by Close. After a crash the order of addresses by
// last use is therefore right except for what happened within that interval;
// an address known to have been live counts as used until the last write.
// Sessions don't survive a restart: all leases are idle after Open.
//
// # Parts
//
// table.go decides and does no I/O, reads no clock; space.go knows pools, places.go
// where leases and devices lie, undo.go how a batch is taken back;
// store.go is the file; registry.go is the one goroutine that owns them. What
// doesn't live here: who may connect (package admit), what is done with an
// address (package session).
//
// A lease takes about 270 octets of memory with a device name of 36 octets,
// measured over a million.
package lease
