// Package server is the HTTP side of device management: it reads a message
// within limits on size and time, finds out who sent it, hands it to the session
// that it belongs to and writes the answer.
//
// Whose session it is. A device that the transport authenticated is known by
// that, and its session by its own SessionID: whatever it writes, it can't name
// another device's. One without a certificate names itself, so its session is
// known by a random token, which travels in RespURI and in a cookie; a session
// that proved nothing yet ends nobody else's. A device has one session at a
// time: a new one, once authenticated, ends the one before.
//
// Sessions live in the memory of one server, bounded in number and time. Several
// servers behind a balancer need affinity by source address for as long as a
// session lasts; a session that is lost costs nothing but the time until the
// device comes again, because all that must survive lies behind session.Queue.
package server
