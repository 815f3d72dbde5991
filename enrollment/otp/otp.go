package otp

import (
	"crypto"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Sizes in octets.
const (
	idSize       = 5
	passwordSize = 10
	// KeySize of what Password.Key derives.
	KeySize = 32
)

// keyLabel separates the key of a request from all else that a password might
// be used for.
const keyLabel = "roamgate enrollment key 1"

// ErrFormat: this is no request ID, password or code. The text never repeats
// the input, which may be most of a password.
var ErrFormat = errors.New("not in the form of an enrollment code")

var encoding = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ID of a request. It is no secret. Two IDs are equal if they are the same
// request; the zero value is none.
type ID [idSize]byte

// Password of a request: 80 random bits. Its owner erases it with Erase.
type Password [passwordSize]byte

// Code is what a user is given: a request and its password.
type Code struct {
	ID       ID
	Password Password
}

// New makes a code from the system's randomness.
func New() Code {
	var c Code
	rand.Read(c.ID[:])
	rand.Read(c.Password[:])
	return c
}

// Key derives what proves knowledge of the password without showing it:
// HKDF-SHA-256 (RFC 5869) over the password, with the ID as salt. The caller
// erases it.
func (p *Password) Key(id ID) []byte {
	key, err := hkdf.Key(sha256.New, p[:], id[:], keyLabel, KeySize)
	if err != nil {
		panic(err) // only for a length that HKDF can't give
	}
	return key
}

// Erase overwrites the password.
func (p *Password) Erase() { clear(p[:]) }

// String in groups, as it is shown and stored.
func (id ID) String() string { return group(encoding.EncodeToString(id[:])) }

// Reveal is the password in groups. There is no String, so that no log shows
// one by accident.
func (p *Password) Reveal() string { return group(encoding.EncodeToString(p[:])) }

// Format keeps fmt from showing a password, with any verb.
func (p Password) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[password]") }

// Reveal is the whole code in groups, for protocols with one field only.
func (c *Code) Reveal() string { return c.ID.String() + "-" + c.Password.Reveal() }

// ParseID reads an ID.
func ParseID(s string) (id ID, err error) {
	err = parse(id[:], s)
	return id, err
}

// ParsePassword reads a password.
func ParsePassword(s string) (p Password, err error) {
	err = parse(p[:], s)
	return p, err
}

// ParseCode reads an ID and a password in one.
func ParseCode(s string) (c Code, err error) {
	var both [idSize + passwordSize]byte
	defer clear(both[:])
	if err := parse(both[:], s); err != nil {
		return Code{}, err
	}
	copy(c.ID[:], both[:])
	copy(c.Password[:], both[idSize:])
	return c, nil
}

// parse fills octets, whose number is a multiple of five, from characters as
// people type them.
func parse(octets []byte, s string) error {
	want := encoding.EncodedLen(len(octets))
	if len(s) > 3*want {
		return ErrFormat
	}
	plain := strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
	if len(plain) != want {
		return ErrFormat
	}
	if _, err := encoding.Decode(octets, []byte(plain)); err != nil {
		clear(octets)
		return ErrFormat
	}
	return nil
}

func group(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(s[i:min(i+4, len(s))])
	}
	return b.String()
}

// bindLabel separates keys that are bound to a public key.
const bindLabel = "roamgate enrollment bound key 1"

// Bind derives from the key of a request (Password.Key) one that is good for a
// single public key: HKDF-SHA-256 with the SHA-256 hash of its
// SubjectPublicKeyInfo in DER as salt. A server keeps it, in place of the
// request's key, once the request was used with that public key; it can't be
// used to apply with another. The caller erases it.
func Bind(key, publicKeyHash []byte) []byte {
	bound, err := hkdf.Key(sha256.New, key, publicKeyHash, bindLabel, KeySize)
	if err != nil {
		panic(err) // only for a length that HKDF can't give
	}
	return bound
}

// HashPublicKey is the SHA-256 hash of a key's SubjectPublicKeyInfo in DER.
func HashPublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}
