// Package checkin has devices that come to a DM server, each over a connection
// of its own with its own certificate, have one session and go.
//
// What lives here: how such a device connects, what it keeps between sessions,
// and when it comes if it lives by a schedule. What doesn't: the DM client
// (package device/dm), when a load is offered (package load), results (package
// report). It speaks standard protocols only, so the server may be anybody's.
package checkin
