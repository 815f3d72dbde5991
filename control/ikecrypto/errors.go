package ikecrypto

import "errors"

var (
	// ErrAlgorithm: an algorithm, key length or group that isn't here.
	ErrAlgorithm = errors.New("ikecrypto: algorithm not supported")
	// ErrLegacy: a legacy algorithm that is here but not allowed.
	ErrLegacy = errors.New("ikecrypto: legacy algorithm not allowed")
	// ErrKeyLength: a key that doesn't have the length of its algorithm.
	ErrKeyLength = errors.New("ikecrypto: wrong key length")
	// ErrPublicValue: the peer's public value has the wrong length, is not on
	// the curve, leads to a shared secret of zeros, or is 0, 1 or p-1 and more
	// in a MODP group. The exchange is answered INVALID_SYNTAX.
	ErrPublicValue = errors.New("ikecrypto: public value not valid")
	// ErrIntegrity: a message was not protected with these keys, or was
	// changed. It is dropped without an answer.
	ErrIntegrity = errors.New("ikecrypto: integrity check failed")
	// ErrNotEncrypted: the message doesn't end with an encrypted payload.
	ErrNotEncrypted = errors.New("ikecrypto: no encrypted payload")
	// ErrFragment: the message is a fragment, which has no payloads of its own.
	ErrFragment = errors.New("ikecrypto: encrypted fragment")
	// ErrNotFragment: the message is not a fragment.
	ErrNotFragment = errors.New("ikecrypto: no encrypted fragment")
	// ErrFragmentSize: the message can't be sent in MaxFragments of that size.
	ErrFragmentSize = errors.New("ikecrypto: fragments too small for the message")
	// ErrFragmentStale: a fragment that was there before, of an older message,
	// or of a division into fewer fragments than another that was seen.
	ErrFragmentStale = errors.New("ikecrypto: stale fragment")
	// ErrFragmentLimit: more fragments than MaxFragments, or more octets in
	// them than MaxReassembly.
	ErrFragmentLimit = errors.New("ikecrypto: fragmented message too large")
	// ErrExhausted: all IVs of this key were used.
	ErrExhausted = errors.New("ikecrypto: key used up")
	// ErrErased: the key was erased, or a private key was used already.
	ErrErased = errors.New("ikecrypto: key erased")

	errNoScalar = errors.New("ikecrypto: private key: random source gives no usable scalar")

	// ErrSignature: the signature is not that of these octets by this key.
	ErrSignature = errors.New("ikecrypto: signature not valid")
	// ErrAuth: AUTH data of a resumed IKE SA that don't come from its keys.
	ErrAuth = errors.New("ikecrypto: AUTH data not valid")
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
	// P-256, P-384, P-521, Ed25519.
	ErrKeySize = errors.New("ikecrypto: key size not acceptable")
	// ErrSignatureAlgorithm: the AlgorithmIdentifier of a signature is
	// malformed or names what isn't here (RFC 7427 section 3).
	ErrSignatureAlgorithm = errors.New("ikecrypto: signature algorithm not supported")
)
