// Package integration holds the tests that stand over the whole: scenarios in
// network namespaces with clients that we did not write, each opening with a
// picture of its topology, and the rules of who may import whom. Its helpers
// live in the packages below it.
package integration
