// Package postgres starts PostgreSQL for tests: a process in a folder of its
// own that listens on a Unix socket there and ends with the test.
package postgres
