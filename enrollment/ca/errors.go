package ca

import "errors"

// Errors of a CA. One that is returned by Issue or Revoke may leave an entry
// in the journal, but never a certificate or a revocation without one.
var (
	// ErrExists: there is a file or a CA already, and Replace was not given.
	ErrExists = errors.New("exists already")
	// ErrNoCA: the directory holds no CA.
	ErrNoCA = errors.New("no CA here")
	// ErrPassphrase: none was given where one is needed, or a wrong one.
	ErrPassphrase = errors.New("wrong or missing passphrase")
	// ErrKey: a key that is not accepted, or belongs to another certificate.
	ErrKey = errors.New("key is not accepted")
	// ErrRequest: what was asked for can't be issued; the text says why.
	ErrRequest = errors.New("invalid certificate request")
	// ErrUnknownSerial: this CA never issued it.
	ErrUnknownSerial = errors.New("serial number was not issued here")
	// ErrRevoked: it was revoked before; it still is.
	ErrRevoked = errors.New("certificate was revoked already")
	// ErrJournal: the journal is damaged, other than by half a line at its end.
	ErrJournal = errors.New("journal is damaged")
	// ErrChain: certificates of CAs that don't belong together or can't be one.
	ErrChain = errors.New("not the chain of an issuing CA")
	// ErrHandedOver: the record of this CA is kept elsewhere since HandOver;
	// the text says where.
	ErrHandedOver = errors.New("the record of this CA is kept elsewhere")
	// ErrPKCS11: the token, its module, or that this binary has no PKCS#11.
	ErrPKCS11 = errors.New("PKCS#11")
)
