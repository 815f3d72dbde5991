// Package push is the manager's end of configuration push, the gateway central
// manager: it dials every gateway, brings each section of package gcm to what
// was committed last, and reads what happened there.
//
//	Documents (committed) --> Manager --> one HTTP/2 connection a gateway
//	Journal (events, cursors) <--
//
// A gateway has one goroutine that connects, with back-off, and, while it is
// connected, one for each section, one that asks for its state and one that
// reads events. So a section that a gateway refuses, or takes long for, holds
// back no other; a gateway that doesn't answer, no other gateway.
//
// A gateway that has something older gets the deltas in between, if they are
// still there, or else a snapshot. One that has something newer is left alone:
// then this manager is not the current one, or its database was restored and
// needs a new epoch. One that has another content of the same version is
// reported, too, and gets a snapshot of the next version.
//
// Both ends of TLS have certificates of the installation with the policy of
// their role. Before a gateway has one it is known by its fingerprint, and then
// all it is asked is which certificate it wants (Certify).
//
// What doesn't live here: where documents and events are kept, who decides on
// them, and what the sections mean.
package push
