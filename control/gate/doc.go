// Package gate decides about IKE messages before anything is allocated for
// them: whether the header makes sense, whether an IKE_SA_INIT has to bring a
// stateless cookie first (RFC 7296 section 2.6), because many are half-open or
// its key exchange is expensive, and how many half-open IKE SAs there may be, in
// all and for each source prefix.
//
// It also writes the few answers that go to strangers: COOKIE,
// INVALID_MAJOR_VERSION and INVALID_SPI. All of it is pure: the time, the
// source and the secret come in, verdicts and octets come out.
//
// What doesn't live here: sockets, the message codec (package ikewire), the
// IKE SA (package ike). It reads the few octets that it needs by itself, so
// that a program in front of the gateway can do the same.
package gate
