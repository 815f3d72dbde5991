// Package otp makes and reads what a user needs to enroll a device: the ID of a
// request and its one-time password.
//
// Both are written in Crockford's base 32: digits and capital letters without
// I, L, O and U, in groups of four. Whoever reads one aloud or types it may use
// lower case, O for 0, I or L for 1, and any or no hyphens and spaces.
//
//	request   XK7M-29QA                   40 bits, no secret
//	password  8R2N-W4TB-0HJD-6YEV         80 uniformly random bits
//	code      request and password in one: 24 characters
//
// A password is never chosen by a person, and never stored: what a server keeps
// is the key that Password.Key derives from it, encrypted, until it is used or
// has expired. No I/O and no clock live here.
package otp
