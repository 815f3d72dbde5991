// Package local is the administration API of a running gateway: HTTP and JSON
// over a unix socket, for commands on the same host.
//
// Who may use it is decided by the peer's credentials (SO_PEERCRED and
// SO_PEERGROUPS, unix(7)): root, the user that gatewayd runs as, and the
// members of one configured group. Everybody else gets 403 and the reason.
//
// What lives here: the paths, the types that travel, [Server] and [Client].
// What doesn't: what a session or a lease is; the server asks a [Source].
package local
