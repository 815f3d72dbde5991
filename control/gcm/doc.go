// Package gcm is the wire contract by which a manager configures gateways, both
// directions of it. The manager dials, always: a gateway in the perimeter network
// opens no connection inward. Package agent is the gateway's end, dmlink/push the
// manager's.
//
// # Documents
//
// What a gateway is told is six documents, the sections. Each is a set of
// records with unique keys, has a Version of its own, and is applied as a whole
// or not at all, so that a bad access list never holds back a revocation.
//
//	devices    who is authorised, in which group, with which addresses; and
//	           which certificates are revoked
//	access     groups with their access lists and rates
//	addresses  pools of virtual addresses, and those of neighbours
//	tickets    keys of session resumption; secret
//	settings   algorithms, what devices are told, redirection
//	trust      certificates of the CAs whose devices get in, roots and those
//	           below them
//
// A Snapshot is a whole section. A Delta leads from one to the next and names
// the hash of what it starts from and of what it leads to.
//
// # Versions
//
// A version is (epoch, number), ordered by both. The manager draws the number in
// the transaction that commits the content. An epoch begins when somebody restored
// the manager's database and said so: without that, a manager that has forgotten
// what it sent can't make a gateway go back, and one that slept while another
// worked can't either.
//
// # Hash
//
// The hash of a section is made of the sum, modulo 2^256, of the SHA-256 of its
// records, so that checking a delta costs the delta and not the section. It finds
// out whether two sides have come apart. It is no signature: who could choose
// records at will might find other ones of the same sum, and who sends them is
// authenticated by TLS.
//
// What doesn't live here: connections, files, what a gateway does with a section.
package gcm
