// Package ca is the certification authority of an installation: a root, an
// issuing CA below it, and the record of what was issued and revoked.
//
// Issuer signs certificates, revocation lists and deltas, and remembers
// nothing. CA is an Issuer with a record in a directory of files; an enrollment
// server has the same Issuer and its record in a database. One CA has one
// record: HandOver moves it.
//
// It signs through crypto.Signer, so the issuing key may lie in a file or
// behind a token (PKCS #11, built with the tag pkcs11). It holds no policy of
// who may have a certificate: that is decided by whoever calls.
//
// The directory of files:
//
//	root.pem      root certificate: what clients and gateways trust
//	issuing.pem   certificate of the issuing CA
//	chain.pem     issuing certificate, then root: what a client may import
//	root.key      private keys, PKCS#8 in PEM, mode 0600; or, with a
//	issuing.key   passphrase, root.p12 and issuing.p12 in their place
//	crl.pem       revocation list of the issuing CA
//	issued.jsonl  the journal, mode 0600
//	issuing.csr   for an issuing CA that is signed elsewhere: its request, and
//	instance.oid  its instance OID, whatever policies its certificate has
//
// The root key is needed for a new issuing CA only and may be moved to where
// no network reaches it.
//
// A key with a passphrase is a PKCS#12 file (RFC 7292), PBES2 with
// PBKDF2-HMAC-SHA-256 of 600,000 iterations and AES-256-CBC under a MAC.
// It is a standard that other tools read, and no code of ours.
//
// The journal has a JSON object a line and is the truth: an entry is on disk
// before the certificate leaves Issue, before a revocation is answered and
// before a revocation list gets its number. Processes take turns by a lock on
// it. After a crash it may end in half a line, which belongs to nothing that
// was handed out and is cut off. All other files are replaced as a whole.
package ca
