// Package nft enforces access lists by nftables, where BPF programs can't be
// had (package access). The lists mean the same, as far as nftables can: there
// is no accounting by device, rates are not enforced, super-packets count as
// one, and a transport header that is too short for ports passes the rules that
// look at them.
//
// All is in one table of its own, one for each interface to the devices; other
// tables are neither read nor touched. Every change is one transaction of
// nf_tables, so a packet sees all of it or nothing. The table outlives a process
// that doesn't end well, so that its lists stay in force for what still
// forwards; the next Open, or Clear, takes it back.
//
//	chain in  (prerouting)   packets from the interface: source address -> chain of its group
//	chain out (postrouting)  packets to the interface: destination address -> chain of its group
//	chains g0_in, g0_out ... the rules of a list in the order in which they count
//
// Beside it, in a table of their own, are the rules that clamp the MSS of TCP in
// front of an xfrm interface (ClampMSS), as the userspace data plane does by
// itself.
//
// What lives here: the tables. What doesn't: what a list means (package acl), who
// belongs to which group.
package nft
