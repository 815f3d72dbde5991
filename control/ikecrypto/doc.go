// Package ikecrypto is the cryptography of IKEv2: pseudorandom functions and
// key derivation (RFC 7296 sections 2.13 to 2.18), key exchange (RFC 3526, RFC
// 5903, RFC 8031), protection of messages by SK payloads (RFC 7296 section
// 3.14, RFC 5282, RFC 7634) and in fragments (RFC 7383), and signatures in AUTH
// payloads (RFC 7296 section 2.15, RFC 4754, RFC 7427, RFC 8420).
//
// What lives here: computations on octets, by the numbers of the IANA
// registry. What doesn't: which algorithms are acceptable (package ike), whom
// a certificate belongs to and whether it is trusted (package admit), ESP.
//
// Legacy algorithms are refused unless a Legacy value allows them by name.
//
// Nothing here reads the clock or a global random source: randomness is an
// io.Reader that the caller gives, so that a transcript can be repeated. It
// has to be crypto/rand.Reader everywhere but in tests. Values are not safe
// for concurrent use unless said otherwise.
package ikecrypto
