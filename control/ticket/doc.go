// Package ticket makes and opens the tickets of IKE session resumption (RFC
// 5723): what a gateway has to know of an IKE SA in order to go on from it,
// sealed under a key of the gateway's, and kept by the device.
//
// # The ticket
//
//	version 1 | key ID 8 | nonce 24 | sealed contents
//
// It is sealed by XChaCha20-Poly1305 with version and key ID as associated
// data. The nonce is random: of 192 bits a gateway, and others that share its
// keys without knowing of it, can draw as many as they like, which the 96 bits
// of AES-GCM wouldn't allow. The device can't read a ticket. Who it is isn't in
// the clear, so tickets that travel in the open (RFC 5723 section 4.3.2) don't
// tell devices apart.
//
// # The keys
//
// A key seals for a period, an hour by default, and opens for as long as a
// ticket that it sealed may live; then it is erased. A [Keys] is a value: all
// keys that a gateway has, replaced as a whole, so that it can come from a file
// or from elsewhere. The key of the next period is in it ahead of time, so that
// gateways that share keys have it before any of them seals with it. A [Ring]
// is the place where one writer puts it and many readers use it.
//
// # Used once
//
// A [Filter] remembers tickets that brought a session back. Its bound and what
// happens beyond it are told there.
//
// What doesn't live here: the exchange (package ike), who may come back (package
// admit), files and clocks. Nothing here does public-key cryptography.
package ticket
