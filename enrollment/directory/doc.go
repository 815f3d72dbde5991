// Package directory owns what an installation knows of users, groups, devices,
// requests to enroll and certificates, in SQLite or PostgreSQL.
//
// Each method that changes something is one transaction: a certificate, the
// request that it uses up, the older ones that it takes the place of, what
// others must hear (the outbox) and the audit record are there together or not
// at all, also after a crash. Two who enroll with one request at once are told
// apart by its row: one of them gets ErrNotOpen.
//
// Tables, all with the prefix directory_:
//
//	user group device member   who has which device, and which groups it is in
//	key                        which device had a public key first; it keeps it
//	request                    an administrator's wish, and its secret, sealed
//	certificate authority      the record of what was issued, by which CA
//	list                       published revocation lists, complete and delta
//	outbox                     enrolled, renewed, revoked, closed: for the manager
//	audit                      what was done, by whom; triggers keep it append-only
//	identity version           which database this is, and its migrations
//
// Times are microseconds since 1970 in UTC. Outbox entries get their numbers
// when they are first read: numbers of a sequence are taken before a commit, so
// a reader could pass one by that is committed later. This way readers never
// miss one, numbers have no gaps, and writers don't wait for each other.
//
// Secrets come in sealed and are taken out of the row when their time is over.
// SQLite overwrites what is deleted (secure_delete); PostgreSQL keeps it until
// it vacuums.
//
// What doesn't live here: who may have what, when, and why not. That is package
// enroll, which declares the narrow interface that it needs, so that another
// directory can stand behind it.
package directory
