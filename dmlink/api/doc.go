// Package api is the administrators' API of a manager: HTTP with JSON below /v1,
// described by /openapi.json (OpenAPI 3.1).
//
// One table of operations (table.go) says what there is: the API, its document,
// the commands of gatewayd and who may what come from it. New fails for a row
// without a handler, a test of gatewayd for one without a command, and what has
// no row can't be registered.
//
// # Who may what
//
// Roles hold in one instance, which is one installation; a token or grant of
// another one is nothing here. In short, testdata/roles.txt has each cell:
//
//	                                     server device security helpdesk auditor
//	devices, tasks, wipes, schedules: look  x      x       x        x       x
//	inventory, answers, alerts, explain     .      x       x        x       .
//	task: lock                              .      x       x        x       .
//	task: query, message                    .      x       .        x       .
//	task: wipe, deactivate, activate;
//	  cancel a task                         .      x       x        .       .
//	task: any node                          .      x       .        .       .
//	groups, schedules: change               .      x       .        .       .
//	policies: plan, apply                   .      x       .        .       .
//	policies: read with their values        .      x       x        .       .
//	policies: history                       x      x       x        .       x
//	messages as they travelled              .      x       .        .       .
//	roles, tokens: give                     x      .       .        .       .
//	roles, tokens: take                     x      .       x        .       .
//	roles, tokens: list; audit log          x      .       x        .       x
//
// Security administrators take away and give nothing, so nobody gets more by that
// role than it has. Server administrators give roles, also to themselves: who has
// the server has its database. What they did is in the audit log.
//
// Values that may be secret, those of policies and of tasks that write nodes, are
// left out for who may not read policies or place such tasks.
//
// # Who asks
//
// A bearer token; or an administrator's certificate of the installation, whose
// name has roles by grants; or a user of the server's own host over a unix
// socket, where root is a server administrator. A token that is shown counts
// alone. Refusals are limited for each identity, and for strangers by network; who
// is right is never held up by who isn't.
//
// # The audit log
//
// Each change is written there before it happens, and what came of it before it
// is answered; each refusal, and looks at what is secret. Without the log nothing
// happens. No operation changes it. A change without an end was cut off: the
// server died, and what became of it can be looked up.
//
// # Lists and errors
//
// Lists come in pages: limit of at most 500, and after, which is the next of the
// page before. Errors are problems (RFC 9457) with a hint what to do.
//
// What lives here: HTTP, JSON, and what an operation is called. What doesn't: any
// decision about devices; each operation is a call of dmlink/task, policy, store,
// inventory or access.
package api
