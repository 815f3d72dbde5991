// Package admin is the administrators' API of an enrollment server, and its
// client: HTTP with JSON below /v1, described by /openapi.json (OpenAPI 3.1).
//
// Who may do what, and where it is written down that they did, are functions
// given at construction. By default an administrator is who shows a certificate
// of profile ca.Admin that this installation issued and didn't revoke; it may do
// everything.
//
// Lists come in pages: `limit` of at most 500, and `after`, which is the `next`
// of the page before; a page without `next` is the last one. Errors are problems
// (RFC 9457).
//
// What lives here: HTTP, JSON and what an operation is called. What doesn't: any
// decision; each operation is a call of package enroll or directory.
package admin
