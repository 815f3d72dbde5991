// Package access keeps who may administer an instance, and what they did: roles
// of administrators, bearer tokens, and the audit log, in SQL.
//
// A subject is a name that something vouches for: a certificate of the
// installation, a token, or the kernel for a user of the server's own host. Roles
// are granted to a subject in one instance; a token has its roles from the
// beginning, as long as its maker may lend them, and ends.
//
// # Tokens
//
// 256 bits, drawn; stored as a SHA-256 over instance, ID and secret, which needs
// no salt since nobody can guess that. A row is found by its ID, which is public,
// and digests are compared in constant time.
//
// # The audit log
//
// Entries are appended and nothing else: the tables refuse UPDATE and DELETE, and
// each entry has an HMAC over itself and the hash of the one before, under a key
// that isn't in the database. So who can write to the database can't change,
// remove or insert an entry that Verify doesn't find; only the newest ones could
// be cut off together with the head, which is found by a number and hash that
// somebody noted elsewhere. There is no retention: entries stay.
//
// What a role may do is decided by the table of operations in package api, not
// here.
package access
