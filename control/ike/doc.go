// Package ike is the IKEv2 state machine (RFC 7296): one Machine for each IKE
// SA, responder or initiator, a file an exchange.
//
// A Machine does no I/O, reads no clock, logs nothing, starts no goroutine:
//
//	out := m.Step(now, in)
//
// Inputs are messages from the peer, answers to what the machine asked for,
// orders of the owner, and the passing of time. Outputs are messages to send,
// questions, changes of Child SAs and news; package session carries them out.
// Whatever costs time (key exchange, signatures, certificates) is a [Work]
// output: a function to be run elsewhere, whose result comes back as an input.
// A rekeyed IKE SA is a Machine of its own, which the one before hands out as
// [Spawned]; [Rekeyed] says when it takes over the Child SAs.
//
// What lives here: exchanges, their retransmission and windows, negotiation,
// derivation of keys by way of package ikecrypto. What doesn't: sockets,
// cookies and limits for strangers (package gate), who is admitted (package
// admit), which address is given (package lease).
package ike
