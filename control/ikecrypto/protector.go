package ikecrypto

import (
	"crypto"
	"fmt"
	"io"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Protector seals or opens what one side of an IKE SA sends, by the SK payload
// (RFC 7296 section 3.14). There is one for each direction; nothing is sealed
// with a key that another Protector seals with, for the IVs of an AEAD
// algorithm must not repeat (RFC 5282 section 3.1).
type Protector interface {
	// Seal writes the whole message behind dst: the header and cleartext
	// payloads of m (usually none), then an SK payload with inner. m is not
	// changed. A message that is sent again is not sealed again: keep the
	// octets. Errors: those of ikewire, ErrExhausted, ErrErased.
	Seal(dst []byte, m *ikewire.Message, inner []ikewire.Payload) ([]byte, error)
	// Open checks and decrypts raw, from which m was parsed, and returns the
	// payloads inside. raw is not changed. Errors: ErrNotEncrypted,
	// ErrFragment, ErrIntegrity, ErrErased, with which the message counts as
	// never received; after a successful check, those of
	// ikewire.ParsePayloads, answered INVALID_SYNTAX, and nothing else.
	Open(raw []byte, m *ikewire.Message) ([]ikewire.Payload, error)
	// Erase zeroes the keys as far as the standard library allows it: key
	// schedules in cipher objects are left to the garbage collector.
	Erase()
}

// NewProtector for one direction: SK_ei and SK_ai for what the initiator
// sends, SK_er and SK_ar for the responder. Keys are copied. rand gives the
// IVs of AES-CBC; AEAD algorithms don't use it. Errors: ErrAlgorithm,
// ErrKeyLength.
func NewProtector(s Suite, encKey, integKey []byte, rand io.Reader) (Protector, error) {
	encLen, integLen, err := s.keyLens()
	if err != nil {
		return nil, err
	}
	if len(encKey) != encLen || len(integKey) != integLen {
		return nil, fmt.Errorf("%w: %d and %d octets for %s", ErrKeyLength, len(encKey), len(integKey), s)
	}
	if integLen == 0 {
		return newGCM(encKey)
	}
	return newCBC(integrityHash(s.Integrity), encKey, integKey, rand)
}

// integrityHash is the hash of an HMAC-SHA2 integrity algorithm, 0 if it isn't
// here. Its checksum is cut to half the hash (RFC 4868 section 2.3).
func integrityHash(id uint16) crypto.Hash {
	switch id {
	case ikewire.IntegHMACSHA256:
		return crypto.SHA256
	case ikewire.IntegHMACSHA384:
		return crypto.SHA384
	case ikewire.IntegHMACSHA512:
		return crypto.SHA512
	}
	return 0
}

// frame writes the message with an SK payload whose body is ivLen octets of
// room, the encoded inner payloads, padding to a multiple of align, the pad
// length, and icvLen octets of room. It returns the message and where the body
// starts in it.
func frame(dst []byte, m *ikewire.Message, inner []ikewire.Payload, ivLen, align, icvLen int) (out []byte, body int, err error) {
	content := make([]byte, ivLen, 512)
	first, content, err := ikewire.AppendPayloads(content, inner)
	if err != nil {
		return dst, 0, err
	}
	pad := (align - (len(content)-ivLen+1)%align) % align
	for range pad {
		content = append(content, 0)
	}
	content = append(content, byte(pad))
	n := len(content) + icvLen
	for range icvLen {
		content = append(content, 0)
	}
	sealed := ikewire.Message{Header: m.Header}
	sealed.Payloads = append(sealed.Payloads, m.Payloads...)
	sealed.Payloads = append(sealed.Payloads, &ikewire.Encrypted{First: first, Body: content})
	out, err = sealed.Append(dst)
	if err != nil {
		return dst, 0, err
	}
	return out, len(out) - n, nil
}

// encrypted finds the SK payload of m and where its body starts in raw.
func encrypted(raw []byte, m *ikewire.Message) (*ikewire.Encrypted, int, error) {
	if len(m.Payloads) == 0 {
		return nil, 0, ErrNotEncrypted
	}
	sk, ok := m.Payloads[len(m.Payloads)-1].(*ikewire.Encrypted)
	if !ok || len(sk.Body) > len(raw) {
		return nil, 0, ErrNotEncrypted
	}
	if sk.Type() == ikewire.PayloadFragment {
		return nil, 0, ErrFragment
	}
	return sk, len(raw) - len(sk.Body), nil
}

// unframe takes the padding off a decrypted body, any content of it (RFC 7296
// section 3.14), and reads the payloads.
func unframe(first ikewire.PayloadType, plain []byte) ([]ikewire.Payload, error) {
	if len(plain) == 0 || int(plain[len(plain)-1]) > len(plain)-1 {
		return nil, fmt.Errorf("ikecrypto: padding: %w", ikewire.ErrLength)
	}
	n := len(plain) - 1 - int(plain[len(plain)-1])
	return ikewire.ParsePayloads(first, plain[:n])
}
