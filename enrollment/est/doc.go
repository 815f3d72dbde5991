// Package est speaks Enrollment over Secure Transport (RFC 7030, with the
// corrections of RFC 8951): CA certificates, what a request should have, a first
// certificate for a one-time password, and the next one for the certificate.
//
//	GET  /.well-known/est/cacerts          issuing and root certificate
//	GET  /.well-known/est/csrattrs         the preferred key and signature
//	POST /.well-known/est/simpleenroll     HTTP Basic: see otp.ParseLogin
//	POST /.well-known/est/simplereenroll   TLS client certificate
//
// Any label may stand before the last word (RFC 7030 section 3.2.2); there is
// one CA behind all of them. Full CMC and keys made by the server aren't
// offered.
//
// It is a skin of package enroll: it turns HTTP into an application and the
// outcome into HTTP. It decides nothing. Errors are a status and a sentence in
// plain text (RFC 7030 section 4.2.3); whoever can't prove to know a password
// gets 401 with the same sentence whatever the reason is. The time that a
// request may take is for the HTTP server to bound.
package est
