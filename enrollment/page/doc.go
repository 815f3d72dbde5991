// Package page is where the user of a device turns a one-time password into what
// the device imports: log in, consent, download. It is HTML without scripts.
//
// The server keeps nothing between two requests: a session is a cookie that only
// the server can read and that ends after a quarter of an hour. It holds the
// password and the key that was made for the device, so that a lost answer can
// be asked for again, and all nodes of one installation can answer.
//
// Where the device can't make its own key the server makes it; the page says so,
// and it is nowhere but in that cookie and in the file.
//
// What lives here: pages, sessions, names and types of files. What doesn't:
// whether a device gets a certificate (package enroll), and what is in the files
// (package profile).
package page
