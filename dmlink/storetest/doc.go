// Package storetest is the suite that the store passes on every database, and
// opens stores for tests.
package storetest
