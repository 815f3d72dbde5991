// Package guard is an XDP program on the interface that devices come to, and its
// loader. It lets ESP of known SPIs and IKE pass to the gateway, bounds what
// strangers can make the gateway do, and answers COOKIE for it when too many
// begin an IKE SA.
//
// It filters and never authorises: whatever passes is judged again by those
// behind it, and what can't be read is left to the kernel. Where there is no
// XDP the gateway works without it.
//
// What lives here: the program (guard.c and its headers), the maps that it reads,
// attaching it, replacing a predecessor without a gap, and what stays in force
// when the daemon ends. What doesn't: who knows which SPIs there are, what
// becomes of an event, where cookie keys come from (package control/gate makes
// the same cookies).
package guard
