// Package cms is the part of the Cryptographic Message Syntax (RFC 5652, once
// PKCS #7) in which enrollment protocols talk: data that one party signed
// (SCEP, renewals of Windows), data enveloped for one RSA key (SCEP), and
// bundles of certificates without either (EST, SCEP).
//
// It reads what strangers send: sizes and depth are bounded before anything is
// allocated, one signer and one recipient are looked at, and opening an
// envelope takes the same path whether its key or its padding is wrong, so that
// a server doesn't become an oracle for PKCS #1 v1.5 (RFC 3218). BER is taken
// as some clients write it, with indefinite lengths and octet strings in
// pieces; DER is written.
//
// Whom a signature's certificate belongs to and whether it is trusted is for
// others to say. No clock lives here.
package cms
