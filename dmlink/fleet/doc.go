// Package fleet is what a manager knows of its gateways and tells them: the
// content of the pushed documents, as rows; the registry of gateways; what they
// told, and so where devices are.
//
//	enrollment's outbox --> authorisations, addresses, revocations --+
//	policies            --> quarantine or not                        |
//	administrators      --> groups, pools, settings, gateways        |
//	                                                                 v
//	        one transaction: content, and the section's next version
//	                                                                 v
//	        follow: every manager reads what was committed --> push.Documents
//
// A section has a row that whoever changes its content locks; the version is drawn
// with it. So versions are in the order of the commits, and a manager that slept
// can't commit over another one: it changes rows that it reads anew, never what it
// remembers. What it remembers is for gateways only. After a commit, and otherwise
// five times a second, it reads the versions; the devices' changes come as deltas,
// as long as they are there, all else is read whole.
//
// Virtual addresses are the database's, too: a device has one of each family as
// long as it is authorised, and gets it back if it comes again soon. Next to be
// given are those that have rested, then those that nobody ever had; none of this
// searches.
//
// What doesn't live here: connections to gateways (package push), what sections
// mean to a gateway, who may ask for what (package api), and why a device complies
// (package policy).
package fleet
