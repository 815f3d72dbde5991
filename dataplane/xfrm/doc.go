// Package xfrm is the [dataplane.Backend] that has the kernel forward: Child SAs
// become states of XFRM, and what goes to which of them becomes policies of one
// xfrm interface, into which the pools are routed.
//
// # Layout
//
// Everything bears the if_id of that interface. Each Child SA is two states. A
// device (a first virtual address) has one reqid for all its Child SAs, and one
// out policy for each local prefix that its Child SA allows, whose template names
// the outbound SA by its SPI: UseOutbound replaces the template, which takes
// effect from one packet to the next. Inward, N devices share one `in` and one
// `fwd` policy for each pool and common local selector. Who may use which virtual
// address is told by the inbound SA's selector where pools are of one family;
// otherwise a layer checks it (Config.SourceBinding), or each device has `in` and
// `fwd` policies of its own, see binding in config.go. Traffic selectors that
// aren't the common ones cost policies, too: ranges are cut into prefixes and
// masks, and the rest of the device is blocked.
//
// # Sequence numbers
//
// No pair of key and sequence number is sent twice. A move to another outer
// address makes the new outbound SA while the old one still sends, so that no
// packet is without one: first the old one gets a hard limit a margin ahead of
// what it has sent, then the new one begins behind that margin; the old one goes
// when no packet can be on its way to it. A move that needs
// the same place in the kernel's table (another encapsulation, or another local
// address, for the same peer), one with offload (see margin) and a hand-over remove the SA first and take its
// last state from the message with which the kernel tells of the removal; no
// packet can follow that. When that message is lost the Child SA stays dead.
// XFRM_MSG_MIGRATE_STATE would do it in one step; no released kernel that we
// could run has it.
//
// # What can't be told
//
// The kernel counts drops by its own reasons, for the whole network namespace:
// Features.CountedAs says which of ours fall together. Not told at all are drops
// for ECN and of packets too big for the path (the kernel answers those with
// ICMP); an unknown SPI is counted, but not told by an event. Limits hold for
// each direction, as the kernel's lifetimes do. MAPPING doesn't say whether a
// packet was the newest, so a late one may look like a move, and it doesn't exist
// for raw ESP. TCP's MSS is clamped in front of the interface (nft.ClampMSS).
//
//	uapi.go, wire.go                 numbers, batches of messages, attributes
//	state.go, policy.go, aevent.go   messages; parse.go what comes back
//	socket.go                        requests and dumps
//	selector.go                      traffic selectors to XFRM selectors
//	model.go                         devices, children and who holds a policy
//	backend.go, apply.go, move.go    changes
//	handover.go, counters.go, events.go, local.go, transport.go
//	probe.go                         what this kernel can do
//
// What lives here: the encoder, and what decides which messages are sent. What
// doesn't: routes and forwarding (package link), filters before and behind
// (package layered and its layers), unknown SPIs (bpf/guard).
package xfrm
