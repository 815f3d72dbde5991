package cms

import "errors"

// Errors.
var (
	// ErrFormat: not CMS, or none of the kinds that are read here.
	ErrFormat = errors.New("malformed CMS message")
	// ErrAlgorithm: an algorithm that isn't supported, or not allowed.
	ErrAlgorithm = errors.New("CMS message with an unsupported algorithm")
	// ErrSignature: the signature, or the digest that it covers, is wrong.
	ErrSignature = errors.New("CMS message with a wrong signature")
	// ErrRecipient: enveloped for somebody else.
	ErrRecipient = errors.New("CMS message for another recipient")
	// ErrOpen: the envelope can't be opened. It doesn't say why: see the
	// comment of the package.
	ErrOpen = errors.New("CMS envelope that can't be opened")
)
