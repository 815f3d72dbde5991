// Package policy decides which nodes of the management tree a device shall have
// with which values, and what has to be sent so that it has them.
//
//	Document -> Compile -> Model.Resolve(device) -> Result
//	Result + State (what the device confirmed) -> State.Plan -> Commands
//
// A Document holds named sets of settings, units (a tree of organizational units
// with devices in them) and links of sets to units. It is small, is kept whole,
// and each version of it is kept. Everything up to the Commands is a pure
// function of document, device and state; Engine carries results into a Store,
// in which commands wait for the device's next session.
//
// # Precedence
//
// It is that of Group Policy, on a tree of units and for devices:
//
//   - A set applies to the devices of the units that it is linked to, and below.
//   - Of two sets that give the same node a value, the one whose link is nearer
//     to the device wins; of two links at one unit, the one with the lower order,
//     which is 1 or more.
//   - A unit with Block doesn't inherit from above, except what is enforced.
//   - An enforced link can't be blocked and wins over all that aren't enforced; of
//     two enforced links the one farther from the device, higher in the tree, wins.
//   - Security filtering: a set with Groups applies only to members of one of them,
//     a set with Except to no member of one of those, which wins.
//   - A set whose Filter is false or fails doesn't apply (WMI filters).
//   - A disabled set applies nowhere, a disabled link doesn't count.
//   - Values merge node by node; sets aren't taken whole.
//   - When no set wants a value any more, it is removed (as with administrative
//     templates), unless the setting says to keep it (as preferences do) or which
//     value to leave.
//
// What Group Policy has and this hasn't: sites, local policy, loopback, slow
// links, and a half for users. What this has besides: a setting may say that a
// node shall not be there, and settings that can't both hold, because one is
// below a node that another removes or makes a leaf, compete like two values of
// one node.
//
// What doesn't live here: SQL (dmlink/store), how commands travel
// (dmlink/session), what is in the inventory (dmlink/inventory), and which nodes
// the usual wishes come down to (policy/standard).
package policy
