package ca

import "crypto"

// Token is where a key lies behind PKCS#11: an HSM, a smart card.
type Token struct {
	// Module is the path of the vendor's library.
	Module string
	// Label of the token, and that of the key pair on it.
	Label string
	Key   string
	// PIN of the token's user; what it returns is erased.
	PIN func() ([]byte, error)
}

// TokenSigner signs with a key that never leaves its token. It is safe for
// concurrent use.
type TokenSigner interface {
	crypto.Signer
	// Close logs out. No other TokenSigner of the same module may be open.
	Close() error
}
