// Package accounts joins enrollment and device management, which don't know each
// other: what enrollment's outbox tells becomes accounts of devices, a client
// certificate becomes the device that it was issued to, and a wiped device is
// closed at enrollment, too.
//
// Both are in one database, and each thing is one transaction of one of them: the
// cursor of what was followed is written with what it caused (store.Follow), so a
// crash between two of them costs time and nothing else. Several managers may do
// the same at once; whoever finds the cursor where it was has done it.
//
// What lives here: which event means what. What doesn't: who may enroll, and what
// an account may do.
package accounts
