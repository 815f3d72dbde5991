// Package agent is the gateway's end of configuration push, the VPN agent: it
// takes the documents of package gcm from a manager, keeps the last good ones in
// a file, has them put into force, and tells the manager what happened.
//
//	manager --- mutual TLS, HTTP/2 ---> Handler -> Agent -> file -> Apply
//	        <-- events, on the stream that the manager opened -- Events
//
// The manager dials; nothing here opens a connection. Who gets in holds a
// certificate of the installation's root with the policy of managers below the
// instance OID (ServerConfig). A manager is believed what it says of the
// configuration, and nothing that would take the gateway's memory or its time:
// bodies are bounded, have to make progress, and few are read at once.
//
// A document is acknowledged when it is on disk. It is either taken as a whole,
// or refused with every reason that was found, and then nothing has changed.
// What is stored and can't be put into force is reported as not applied.
// Sections don't wait for each other.
//
// The file has two kinds of buckets, all numbers in network order:
//
//	meta             "version" -> 4 octets; "run" -> 8 octets, counts starts;
//	                 "identity" -> certificate chain in PEM; "heard" -> 8 octets,
//	                 when a manager was, Unix time in nanoseconds;
//	                 SECTION -> epoch 8 | number 8 | hash 32
//	records:SECTION  key -> value, as they came
//
// It has the keys of resumption tickets in it, so it is for its owner only, and
// what was overwritten may stay readable in it for a while.
//
// What doesn't live here: what a section means to a gateway. That is Check's and
// Apply's, which are given at construction.
package agent
