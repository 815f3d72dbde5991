// Package client enrolls a device by our own protocol: it makes the key, finds
// the server, verifies what it says with the code that the user was given, and
// hands out key, certificate, chain and configuration.
//
// It believes nothing that isn't under a MAC of the code: not the name service,
// not the TLS certificate, not the answer of a discovery. See package join for
// the messages and why.
//
// What lives here: one enrollment, with its retries. What doesn't: files,
// profiles and commands (gatewayd), renewal.
package client
