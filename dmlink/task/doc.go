// Package task turns what an administrator wants into commands for devices:
// lock, wipe, activate, deactivate, query, operations on nodes. Types of tasks
// are an open table, see [Types]; who is meant is said by identity, IMEI, IMSI,
// phone number, user or group.
//
// [Keeper] carries on what tasks leave behind: it ends those that expired, and
// sees wipes through to the end. It keeps no state of its own, so several
// servers run one each, and a crash costs nothing but time.
//
// How commands reach devices is package session, how they are kept package
// store.
package task
