// Package userspace is the ESP engine that needs nothing of the kernel but UDP
// sockets and a TUN device: a [dataplane.Backend] on the loops of this package.
//
// A loop runs to completion: it takes a batch from a socket, carries each
// packet through all stages up to the write into the inside device, does the
// same the other way, and sleeps in poll when there is nothing. A packet never
// changes goroutines, so the path has no channel, no lock and no atomic, and
// the next stage finds the packet in the cache of its core. An experiment had
// this ahead of a pipeline of workers and of one thread a direction in every
// measurement (on two cores, TCP through the tunnel: 4.2 Gb/s against 2.7 and
// 3.8).
//
// A loop owns its sockets, those of all local addresses, its queue of the inside
// device, its table of SAs with their windows and counters, and its drop
// counters; nobody else touches them. Others hand it functions through a bounded
// queue and wait for them, and it waits for nobody. Loops share the events
// channel, the queue of IKE messages and the directory, which says who owns a
// virtual address; what came to the wrong one is passed on in a ring.
//
//	loop.go      rounds, commands, sleeping; nap.go what comes before a sleep
//	inbound.go   outside to inside, stage by stage
//	outbound.go  inside to outside, stage by stage
//	local.go     local addresses: a pair of sockets and a sender each
//	outside.go   what can't be an outer address
//	sadb.go      the table of SAs; spi.go the layout of their inbound SPIs
//	policy.go, keys.go, ciphers.go    what children share, their keys, and what is
//	             made of those for children that move packets
//	directory.go, foreign.go          which loop owns what; passing on
//
// What lives here: the order of the stages, SAs, selectors, limits, what
// tunnels do to IP headers (RFC 4301, RFC 6040). What doesn't: cryptography and
// replay windows (package esp), system calls (packages encap and tun),
// interfaces and routes (package link).
package userspace
