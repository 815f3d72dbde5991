// Package inventory knows what devices say of themselves: DevInfo, DevDetail,
// nodes of vendors, software, and what changed when.
//
//	Survey: what to Get -> what the device answers -> Update
//	Snapshot + Update -> Snapshot, Changes
//
// A Survey walks the management tree of a device from roots on, a level with
// each round, within bounds. Snapshot is the last known state, Changes its
// history. All this is pure; Keeper carries it into a Store.
//
// What doesn't live here: SQL (dmlink/store), how commands travel
// (dmlink/session), and what follows from an inventory (dmlink/policy).
//
// Specifications: OMA-TS-DM_StdObj-V1_2_1 (DevInfo, DevDetail),
// OMA-TS-SCOMO-V1_0 section 5 (Inventory/Deployed).
package inventory
