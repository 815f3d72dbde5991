// Package supervisor runs the roles of one host as child processes: it starts
// them, waits until each says that it serves, restarts one that died and lets
// its siblings work on.
//
//	Run --- child: process, its socket of sd_notify(3), its back-off
//	    `-- child: ...
//
// A child that ends before it ever served ends everything: its configuration is
// wrong, and starting it again would only repeat that. One that served and dies
// is started again, first after a second, then after twice as long each time, up
// to half a minute. One that ends in order, with status 0, was asked to: then
// everything ends.
//
// Children die with the supervisor, even if that is killed: they have
// PR_SET_PDEATHSIG. What they write goes where the supervisor's own output goes.
//
// What doesn't live here: which roles there are, their configuration, and
// privileges beyond the user a child runs as. On hosts with a service manager its
// units do the same, one a role, and better.
package supervisor
