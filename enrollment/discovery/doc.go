// Package discovery finds the server that a device has to enroll with.
//
// A device makes the published name out of the e-mail address of its user:
// mobileenroll.DOMAIN, then enterpriseenrollment.DOMAIN. The address itself
// never leaves the device. The server there may be one of several instances,
// independent installations with a CA each; it asks all of them in parallel,
// over mutual TLS, which one has the request, and answers with their names.
//
//	device --- /join/discover ---> published server --- /instance/find ---> others
//
// The device shows that it knows the password of the request, bound to its
// connection (join.Inquiry); each instance verifies that by itself and answers
// with a MAC over its own name. So the published server can neither claim a
// request for somebody else nor send a device elsewhere, and who doesn't know a
// password gets the same answer after the same work, whichever request there is.
//
// Instances know each other by configuration: name, URL, root and instance OID.
// A certificate of an instance chains to that root, is for both ends of TLS and
// carries the policy of such certificates (ca.Peer), which lies below the OID; a
// device's certificate is never one.
//
// What doesn't live here: the messages of devices (package join), resolving
// names, and any decision.
package discovery
