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
//   - one watcher takes the data plane's events and reads its counters;
//   - one recorder hands records of sessions to whoever keeps account.
//
// A session is what a device has; it goes on when its IKE SA is rekeyed. Then
// there are two machines for a while, or three if both sides began: one carries
// the session, the others are bare and end by themselves. The session's ID is
// our SPI of its first IKE SA; orders go by it, messages by the SPI of the
// machine that they are for.
//
// An IKE_SA_INIT belongs to a shard by its source and initiator SPI, every
// other message by our SPI, the responder's or, after a rekeying that we began,
// the initiator's. Its first octet is the shard's number, so a session stays on
// its shard. Messages wait in a bounded inbox, and one that finds it full is
// dropped; answers to machines wait in a queue of their own that drops nothing
// and is bounded by the questions that are open.
//
// A silent device is parked: nothing is sent to it and its SAs and lease are
// kept, until packets to it go unanswered or the idle limit is reached.
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
