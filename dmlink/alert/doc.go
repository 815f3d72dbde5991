// Package alert wakes devices. It makes and verifies Package #0 of OMA DM (OMA
// Device Management Notification Initiated Session 1.2, OMA-TS-DM_Notification),
// and knows by which channels and how often a device is told.
//
// A notification only wakes: it says that the server wants a session, and with
// which SessionID, never why. So many tasks make one alert, an alert that is
// lost costs time and nothing else, and whoever replays one makes a device ask a
// question.
//
//	notification.go  the message: layout, digest
//	push.go          its form over WAP push, for channels such as SMS
//	channel.go       what delivers it
//	alerter.go       whom to tell, when again, when to stop
//
// # Nonces
//
// The digest has the nonce that the server uses next toward the device, the one
// of its credentials in a session. The last try has [RetryNonce] instead, for a
// device whose nonce isn't the server's any more: a device that can't verify
// with its own tries that one. After such a session both have the same again,
// by the challenges that it has anyway.
//
// # What an alerter remembers
//
// The table is in memory and bounded. What says that a device has something to
// fetch is the queue of its tasks, which is asked before each try. After a
// restart, or where the table was full, the tasks lie there still: the caller
// says Wake again, for those that wait or when a device connects. Without any of
// that a device comes by its schedule.
//
// MD5 is what the specification has. A notification that somebody forges makes
// a device open a session with its own server.
//
// What doesn't live here: sockets, tunnels, how a gateway is reached (packages
// push and control/alerter), tasks, where secrets are kept.
package alert
