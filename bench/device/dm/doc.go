// Package dm is the DM client of the simulated device: a management tree, a
// session over HTTP in either syntax, all ways of authentication, large objects
// in both directions.
//
// A notification of its server, from whatever channel, begins a session:
// [Client.Notified]; [Client.Serve] takes them from a socket.
//
// What it does to its tree it first writes to a [Journal], a file that is synced
// before anything happens, so that a test can judge what was executed how often,
// whatever died meanwhile. It can misbehave on purpose: [Faults].
package dm
