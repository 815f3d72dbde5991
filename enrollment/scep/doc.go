// Package scep speaks the Simple Certificate Enrolment Protocol (RFC 8894), for
// devices that have nothing newer.
//
//	GET  ?operation=GetCACaps                  what is spoken here
//	GET  ?operation=GetCACert                  certificates of the RA, the issuing CA, the root
//	POST ?operation=PKIOperation               a message in the body
//	GET  ?operation=PKIOperation&message=...   the same in base64
//
// The path is for whoever mounts the handler. The challenge password is the
// whole code of a request (otp.ParseCode), as there is no user name. A renewal
// is signed by the present certificate and has no challenge password.
//
// Devices envelope their requests for the registration authority, a certificate
// and key of RSA beside the issuing CA, whose key may be another kind. Keys of
// devices are RSA, too, since the answer is enveloped for them. AES and SHA-2
// only. Where the operator allows legacy clients, there are DES, triple DES and
// SHA-1, too, and only TLS keeps the password secret: RFC 8894 section 3.5.2
// wouldn't have DES at all, but the client in Debian 12 knows nothing else.
// Certificates and revocation lists (GetCert, GetCRL) are found
// elsewhere, and refused here without opening anything.
//
// It is a skin of package enroll and decides nothing. A client that lost an
// answer sends its message again and gets the same certificate, because an
// application with the same password and key does. What can't be read is an HTTP
// error; all else is answered by a CertRep, a refusal by pkiStatus FAILURE.
// One failInfo stands for all that may be wrong with an envelope and what is in
// it, and one for everything about the password: nobody can use the server to
// open envelopes that were made for it, or to look for requests.
package scep
