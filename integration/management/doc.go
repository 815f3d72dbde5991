// Package management tests the roles manager and enrollment as processes: what an
// administrator runs, on loopback addresses of the test's own, with SQLite and
// with PostgreSQL. Devices are simulated, and enroll and come as real ones do.
package management
