// Package tree holds the URIs and node properties of the OMA DM management
// tree, and such a tree in memory: what a DM client keeps its settings in. The
// simulated device runs on it.
//
// Operations answer with the status of the specification; one that fails has
// changed nothing. A tree has one owner and no lock. It does no I/O and reads
// no clock.
//
// Specifications: OMA-TS-DM_TND-V1_2_1 (tree, URIs, properties),
// OMA-TS-DM_RepPro-V1_2_1 (statuses of each command).
package tree
