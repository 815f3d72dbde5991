// Package session is the server's side of a DM session (OMA-TS-DM_Protocol-V1_2_1):
// packages 1 to 4 over several messages, authentication, statuses, large objects
// in both directions.
//
//	Session.Handle(ctx, now, Input) -> Output
//
// A Session has no socket, goroutine, clock or log. What it knows of the world
// comes through two interfaces that whoever builds it provides: [Queue], which
// has the tasks of a device and takes what became of them, and [Accounts], which
// has credentials and nonces. All that must survive lies behind them; a Session
// itself can be thrown away at any time, after an error it has to be.
//
// # What is sent how often
//
// Each task says what its command is: idempotent, queryable or once-only. Before
// the first octet of a command leaves, Queue.Claim has recorded durably that it
// does. A task that was claimed in an earlier session and has no outcome is,
// if idempotent, sent again; if queryable, asked about first; if once-only,
// never sent again, but reported as Unknown. One that was claimed by another
// session in the meantime isn't granted and isn't sent.
package session
