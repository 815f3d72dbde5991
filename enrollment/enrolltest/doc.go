// Package enrolltest is a whole enrollment server for tests of protocols: a CA
// in a folder, a directory in SQLite, the service that decides, and TLS on a
// loopback address. It has transcripts, too: what went over the wire, with that
// which differs from run to run under a name.
package enrolltest
