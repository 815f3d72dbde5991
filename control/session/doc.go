// Package session is the shell around the machines of package ike: it routes
// inputs to them and carries out their outputs, and decides nothing itself.
//
// Goroutines, and what each owns:
//
//   - one receiver reads IKE messages in batches, has package gate look at each,
//     and hands what passes to a shard, without ever blocking;
//   - each shard owns its machines: it steps them, keeps their timers, sends
//     what they want sent;
//   - workers compute what costs time: key exchanges, signatures, admission;
//   - one applier calls the data plane, in order, several machines' changes at a
//     time, and ends leases after the changes before them;
//   - one watcher takes the data plane's events and looks for silent peers.
//
// An IKE_SA_INIT belongs to a shard by its source and initiator SPI, every
// other message by our SPI, whose first octet is the shard's number. Messages
// wait in a bounded inbox, and one that finds it full is dropped; answers to
// machines wait in a queue of their own that drops nothing and is bounded by
// the questions that are open.
//
// The one rule between sessions: a device has one. A new session that has come
// up replaces the one before it, which package lease names. If the new one
// fails after it was given the lease, the old one is closed too, and the lease
// ends when that one's Child SA is gone: no address is given to another device
// while packets still flow for it.
//
// What doesn't live here: the protocol (ike), who is admitted (admit), which
// address (lease), sockets and packets (package dataplane's backends).
package session
