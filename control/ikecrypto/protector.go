package ikecrypto

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Protector seals or opens what one side of an IKE SA sends, by the SK payload
// (RFC 7296 section 3.14) or, in fragments, by SKF payloads (RFC 7383). There
// is one for each direction; nothing is sealed with a key that another
// Protector seals with, for the IVs of an AEAD algorithm must not repeat (RFC
// 5282 section 3.1).
type Protector interface {
	// Seal writes the whole message behind dst: the header and cleartext
	// payloads of m (usually none), then an SK payload with inner. m is not
	// changed. A message that is sent again is not sealed again: keep the
	// octets. Errors: those of ikewire, ErrExhausted, ErrErased.
	Seal(dst []byte, m *ikewire.Message, inner []ikewire.Payload) ([]byte, error)
	// SealFragments writes the message in as few fragments as it takes, each a
	// message of at most size octets from the IKE header to the checksum,
	// number 1 first; as one message with an SK payload if it fits. Cleartext
	// payloads go into the first. If a message is sent again in smaller
	// fragments, there have to be more of them than before (RFC 7383 section
	// 2.5.2). Errors: ErrFragmentSize and those of Seal.
	SealFragments(m *ikewire.Message, inner []ikewire.Payload, size int) ([][]byte, error)
	// Open checks and decrypts raw, from which m was parsed, and returns the
	// payloads inside. raw is not changed. Errors: ErrNotEncrypted,
	// ErrFragment, ErrIntegrity, ErrErased, with which the message counts as
	// never received; after a successful check, those of
	// ikewire.ParsePayloads, answered INVALID_SYNTAX, and nothing else.
	Open(raw []byte, m *ikewire.Message) ([]ikewire.Payload, error)
	// OpenFragment is Open for one fragment; Reassembly.Add puts them together.
	// Errors: ErrNotFragment instead of ErrFragment; after a successful check
	// ikewire.ErrLength.
	OpenFragment(raw []byte, m *ikewire.Message) (Fragment, error)
	// AppendState writes what Restore makes the same Protector of, keys included.
	AppendState(dst []byte) []byte
	// Erase zeroes the keys. Key schedules in the cipher objects of single
	// messages are left to the garbage collector.
	Erase()
}

// NewProtector for one direction: SK_ei and SK_ai for what the initiator
// sends, SK_er and SK_ar for the responder. Keys are copied. rand gives the
// IVs of CBC; AEAD algorithms don't use it. Errors: those of Suite.Check,
// ErrKeyLength.
func NewProtector(s Suite, encKey, integKey []byte, rand io.Reader) (Protector, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	encLen, integLen, err := s.keyLens()
	if err != nil {
		return nil, err
	}
	if len(encKey) != encLen || len(integKey) != integLen {
		return nil, fmt.Errorf("%w: %d and %d octets for %s", ErrKeyLength, len(encKey), len(integKey), s)
	}
	p := &protector{}
	if integLen == 0 {
		p.transform = newAEAD(s.Encryption, encKey)
	} else {
		p.transform, err = newCBC(s, encKey, integKey, rand)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// transform is the cryptography of one direction on the octets of a message.
type transform interface {
	// lens are the lengths of IV and checksum, and what the plaintext with its
	// padding is a multiple of, in octets.
	lens() (iv, align, icv int)
	// seal encrypts in place. body is where the room for the IV starts; the
	// padded plaintext and the room for the checksum follow it.
	seal(message []byte, body int) error
	// open is the reverse, into new memory. Errors: ErrIntegrity.
	open(raw []byte, body int) ([]byte, error)
	appendState(dst []byte) []byte
	erase()
}

type protector struct {
	transform transform // nil after Erase
}

func (p *protector) Seal(dst []byte, m *ikewire.Message, inner []ikewire.Payload) ([]byte, error) {
	if p.transform == nil {
		return dst, ErrErased
	}
	d := newDraft()
	defer d.release()
	first, content, err := ikewire.AppendPayloads(d.content[:0], inner)
	if err != nil {
		return dst, err
	}
	return p.seal(dst, m, ikewire.Encrypted{First: first}, content, d)
}

// draft is where a message is put together: what goes into it, and the body of its
// encrypted payload before it is encrypted. Longer ones get memory of their own.
type draft struct{ content, body [4 << 10]byte }

var drafts = sync.Pool{New: func() any { return new(draft) }}

func newDraft() *draft { return drafts.Get().(*draft) }

// release erases what was to be encrypted.
func (d *draft) release() {
	*d = draft{}
	drafts.Put(d)
}

// seal writes m behind dst with sk as last payload, its body made of content in d.
func (p *protector) seal(dst []byte, m *ikewire.Message, sk ikewire.Encrypted, content []byte, d *draft) ([]byte, error) {
	ivLen, align, icvLen := p.transform.lens()
	pad := (align - (len(content)+1)%align) % align
	sk.Body = append(append(d.body[:0], make([]byte, ivLen)...), content...)
	sk.Body = append(sk.Body, make([]byte, pad+1+icvLen)...)
	sk.Body[ivLen+len(content)+pad] = byte(pad)

	sealed := ikewire.Message{Header: m.Header, Payloads: slices.Concat(m.Payloads, []ikewire.Payload{&sk})}
	out, err := sealed.Append(slices.Grow(dst, ikewire.HeaderLen+fragmentHeaderLen+len(sk.Body)))
	if err != nil {
		return dst, err
	}
	message := out[len(dst):]
	if err := p.transform.seal(message, len(message)-len(sk.Body)); err != nil {
		return dst, err
	}
	return out, nil
}

func (p *protector) Open(raw []byte, m *ikewire.Message) ([]ikewire.Payload, error) {
	sk, err := encrypted(raw, m)
	if err != nil {
		return nil, err
	}
	if sk.Type() == ikewire.PayloadFragment {
		return nil, ErrFragment
	}
	content, err := p.open(raw, sk)
	if err != nil {
		return nil, err
	}
	return ikewire.ParsePayloads(sk.First, content)
}

// encrypted finds the SK or SKF payload of m, which ends raw.
func encrypted(raw []byte, m *ikewire.Message) (*ikewire.Encrypted, error) {
	if len(m.Payloads) == 0 {
		return nil, ErrNotEncrypted
	}
	sk, ok := m.Payloads[len(m.Payloads)-1].(*ikewire.Encrypted)
	if !ok || len(sk.Body) > len(raw) {
		return nil, ErrNotEncrypted
	}
	return sk, nil
}

// open is the content of sk without its padding, of which any content is taken
// (RFC 7296 section 3.14).
func (p *protector) open(raw []byte, sk *ikewire.Encrypted) ([]byte, error) {
	if p.transform == nil {
		return nil, ErrErased
	}
	plain, err := p.transform.open(raw, len(raw)-len(sk.Body))
	if err != nil {
		return nil, err
	}
	return unpad(plain)
}

func unpad(plain []byte) ([]byte, error) {
	if len(plain) == 0 || int(plain[len(plain)-1]) > len(plain)-1 {
		return nil, fmt.Errorf("ikecrypto: padding: %w", ikewire.ErrLength)
	}
	return plain[:len(plain)-1-int(plain[len(plain)-1])], nil
}

func (p *protector) Erase() {
	if p.transform != nil {
		p.transform.erase()
		p.transform = nil
	}
}
