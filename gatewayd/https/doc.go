// Package https is an HTTPS listener toward strangers: TLS, time and size for
// each request, connections and requests for each source, and headers that keep
// browsers strict.
//
// A source is a prefix, an IPv4 /24 or an IPv6 /48, as for IKE: one host can
// have all addresses of its own network. What one source takes is bounded, and
// when all connections are taken a newcomer gets the place of one whose source
// has most. Tables are bounded by the connections there may be, and by
// maxSources.
//
// Every answer is put together before it is sent, with its length, because some
// clients of enrollment don't take chunks (MS-MDE2 section 1.5).
//
// HTTP/1.1 only: a connection has one request at a time, so that bounds on
// connections are bounds on work.
//
// What lives here: the connection and the frame of a request. What doesn't: what
// a request means.
package https
