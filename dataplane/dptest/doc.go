// Package dptest holds what every dataplane.Backend is tested with.
//
// [Run] is the conformance suite: it drives a backend through its contract, and
// from the outside and the inside with packets of devices of its own, which
// seal and open with package esp. All that any of these devices receives over
// the whole run is recorded, and no pair of key and sequence number may be
// among it twice. [Fake] is a backend in memory for tests of those above the
// contract; it passes the part of the suite that needs no packets.
//
// What lives here: scenarios that hold for every backend, packets and devices
// for them. What doesn't: tests of how one backend does it.
package dptest
