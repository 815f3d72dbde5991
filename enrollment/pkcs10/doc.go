// Package pkcs10 reads certificate requests (PKCS #10, RFC 2986) as an issuer
// needs them that writes the subject itself: the public key, the proof that
// whoever asks holds the private key, and a challenge password.
//
// The subject and the requested extensions are skipped, not read: nothing of
// them reaches a certificate. So a request gets through whose subject
// crypto/x509 refuses, as that of Windows with '!' and NUL in a
// PrintableString; all else is strict DER.
package pkcs10
