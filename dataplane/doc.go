// Package dataplane is the contract between those who decide about IPsec
// (package ike, through package session) and those who forward it (packages
// userspace and, on kernels with ESP, xfrm).
//
// A [Backend] forwards packets of Child SAs between the outside (UDP 500/4500,
// or raw ESP) and the inside (a TUN or an xfrm interface). It is told what to
// do by [Change] values and tells what it saw by [Event] values. It decides
// nothing: who may connect, which algorithms, when to rekey, is above it; keys,
// sequence numbers, replay windows, selectors and hard limits are below.
//
// What lives here: the types of that contract, and the names of the reasons
// for which a packet is dropped. What doesn't: any I/O, any cryptography, any
// state. Every backend runs the conformance suite in package dptest.
//
// The invariant of the whole project is kept below this line: no pair of key
// and sequence number is ever sent twice, over move, rekey, hand-over or
// crash (RFC 4303 section 3.3.3, RFC 4106 section 2).
package dataplane
