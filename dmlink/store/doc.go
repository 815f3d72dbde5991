// Package store keeps what device management must not forget, in SQLite or
// PostgreSQL: devices and their accounts, tasks and the commands that they are
// for each device, what devices answered, the log of messages, wipes, and the
// outbox of what gateways must hear. Several servers may share one PostgreSQL.
//
// It is the session.Queue and session.Accounts of DM sessions. What an
// administrator may ask for, and which commands that makes, is in package task.
//
// Tables, all with the prefix dm_:
//
//	device member        a managed device, its account; groups
//	task command answer  what to do; that, for one device; what it said
//	alert info           what a device told by itself
//	message              raw messages, compressed, for as long as they are kept
//	wipe outbox          devices on their way out; what others must hear of
//	schedule             when devices of a group come
//	version              migrations
//
// # A command
//
//	waiting -> answered | accepted | confirmed | unknown | undeliverable
//	        -> expired | cancelled
//
// A command waits until it has an outcome, however often it was claimed. Claim
// is a compare and set on the count of claims, so one session sends it; when its
// task expires it isn't granted any more. A device's answer that comes late is
// taken: it is the truth that unknown, expired and cancelled lack. Accepted
// (202) becomes answered by a later generic alert with the task as Correlator.
//
// # Transactions
//
// Each method that changes something is one transaction. On PostgreSQL a claim is
// one statement, and so is a report of outcomes from which nothing follows but
// answers and a mark: one round trip. Rows are changed in the order of IDs where
// the planner lets them; a circle of waiting is what PostgreSQL finds, and one of
// it begins anew. A wipe that a device
// confirmed, the end of its account and the record for gateways are there
// together or not at all.
//
// # Backup
//
// SQLite: `VACUUM INTO 'file'`, while servers run. PostgreSQL: pg_dump -Fc. After
// restoring call AfterRestore before devices come: the backup doesn't know what
// was sent since it was made. Secrets of accounts need the same seal key.
package store
