// Package directorytest is the suite that every directory runs, and databases
// for tests: SQLite in a file, PostgreSQL as a process that the test starts in
// a folder of its own and that ends with it.
package directorytest
