// Package steer brings packets to the packet loop that owns their SA, before it
// takes them: ESP in UDP to a socket of a SO_REUSEPORT group by the loop in its
// SPI, and what goes to a device to a queue of the TUN device by the virtual
// address.
//
// It is about speed and order only: the loops tell each packet apart again, and
// pass on what isn't theirs. A socket is chosen for a bundle of datagrams by the
// first of them.
//
// What lives here: the two programs (steer.c) and their loader. What doesn't:
// which loop owns what, sockets and devices themselves.
package steer
