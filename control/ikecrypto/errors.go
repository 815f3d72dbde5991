package ikecrypto

import "errors"

var (
	// ErrAlgorithm: an algorithm, key length or group that isn't here.
	ErrAlgorithm = errors.New("ikecrypto: algorithm not supported")
	// ErrKeyLength: a key that doesn't have the length of its algorithm.
	ErrKeyLength = errors.New("ikecrypto: wrong key length")
	// ErrPublicValue: the peer's public value has the wrong length, is not on
	// the curve, or leads to a shared secret of zeros. The exchange is
	// answered INVALID_SYNTAX.
	ErrPublicValue = errors.New("ikecrypto: public value not valid")
	// ErrIntegrity: a message was not protected with these keys, or was
	// changed. It is dropped without an answer.
	ErrIntegrity = errors.New("ikecrypto: integrity check failed")
	// ErrNotEncrypted: the message doesn't end with an encrypted payload.
	ErrNotEncrypted = errors.New("ikecrypto: no encrypted payload")
	// ErrFragment: the message is a fragment, which has no payloads of its own.
	ErrFragment = errors.New("ikecrypto: encrypted fragment")
	// ErrExhausted: all IVs of this key were used.
	ErrExhausted = errors.New("ikecrypto: key used up")
	// ErrErased: the key was erased.
	ErrErased = errors.New("ikecrypto: key erased")

	// ErrSignature: the signature is not that of these octets by this key.
	ErrSignature = errors.New("ikecrypto: signature not valid")
	// ErrAuthMethod: an authentication method that isn't here, or that doesn't
	// belong to the key.
	ErrAuthMethod = errors.New("ikecrypto: authentication method not supported")
	// ErrNeedsSHA1: without SIGNATURE_HASH_ALGORITHMS from the peer, an RSA key
	// can sign only by method 1.
	ErrNeedsSHA1 = errors.New("ikecrypto: peer takes RSA signatures with SHA-1 only")
	// ErrSHA1: the signature was made with SHA-1.
	ErrSHA1 = errors.New("ikecrypto: signature with SHA-1")
	// ErrNoCommonHash: the peer announced no hash that our key can sign with.
	ErrNoCommonHash = errors.New("ikecrypto: no common hash algorithm")
	// ErrKeySize: a public key outside the bounds: RSA of 2048 to 8192 bits,
	// P-256, P-384, P-521.
	ErrKeySize = errors.New("ikecrypto: key size not acceptable")
	// ErrSignatureAlgorithm: the AlgorithmIdentifier of a signature is
	// malformed or names what isn't here (RFC 7427 section 3).
	ErrSignatureAlgorithm = errors.New("ikecrypto: signature algorithm not supported")
)
