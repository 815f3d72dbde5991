//go:build !pkcs11

package ca

import "fmt"

// OpenToken opens the key pair of a token. This binary was built without
// PKCS#11, because that needs cgo: it is always an ErrPKCS11.
func OpenToken(Token) (TokenSigner, error) {
	return nil, fmt.Errorf("%w: this binary is built without it; build with `-tags pkcs11` and cgo", ErrPKCS11)
}
