// Package encap holds the UDP sockets that IKE and ESP in UDP share (RFC 3948,
// RFC 7296 section 2.23): batches of datagrams in and out with their TOS
// octets, and the telling apart of IKE, ESP and NAT keepalives.
//
// A [Socket] is one local address and port, a [Receiver] the buffers of one
// batch in, a [Sender] those of one batch out. Both make raw, non-blocking
// system calls and allocate nothing after they were built; waiting is the
// business of the caller, who polls [Socket.FD]. UDP_GRO and UDP_SEGMENT are the
// business of Receiver and Sender: to the caller a segment is a datagram.
//
// What lives here: sockets, buffers, markers. What doesn't: SPIs, SAs,
// goroutines, policy.
package encap
