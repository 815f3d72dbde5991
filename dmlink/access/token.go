package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Lifetimes of tokens.
const (
	DefaultLifetime = 90 * 24 * time.Hour
	MaxLifetime     = 400 * 24 * time.Hour
	MinLifetime     = time.Minute
)

// tokenPrefix tells scanners of repositories and logs what it is.
const tokenPrefix = "rgm_"

const (
	idSize     = 8
	secretSize = 32
)

// Secret is a bearer token: "rgm_" and 40 octets in base64url, an ID of 8 that
// is public and a secret of 32.
type Secret struct {
	id     [idSize]byte
	secret [secretSize]byte
}

// newSecret is drawn.
func newSecret() *Secret {
	s := new(Secret)
	rand.Read(s.id[:])
	rand.Read(s.secret[:])
	return s
}

// ParseSecret reads a token as its owner shows it. ErrToken.
func ParseSecret(text string) (*Secret, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(idSize+secretSize) {
		return nil, fmt.Errorf("%w: malformed", ErrToken)
	}
	var octets [idSize + secretSize + 1]byte
	defer clear(octets[:])
	n, err := base64.RawURLEncoding.Strict().Decode(octets[:], []byte(rest))
	if err != nil || n != idSize+secretSize {
		return nil, fmt.Errorf("%w: malformed", ErrToken)
	}
	s := new(Secret)
	copy(s.id[:], octets[:idSize])
	copy(s.secret[:], octets[idSize:n])
	return s, nil
}

// Reveal is the text, for its owner only.
func (s *Secret) Reveal() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(s.id[:], s.secret[:]...))
}

// Erase the secret.
func (s *Secret) Erase() { clear(s.secret[:]) }

// String keeps it out of logs.
func (s *Secret) String() string { return "token " + s.ID() }

// GoString keeps it out of logs, too.
func (s *Secret) GoString() string { return s.String() }

// ID is public.
func (s *Secret) ID() string { return base64.RawURLEncoding.EncodeToString(s.id[:]) }

// digest is what is stored: of the instance, too, so that a row that is copied
// into another one lets nobody in.
func (s *Secret) digest(instance string) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "roamgate token\n%d\n%s\n", len(instance), instance)
	h.Write(s.id[:])
	h.Write(s.secret[:])
	return [sha256.Size]byte(h.Sum(nil))
}

// Token as it is kept.
type Token struct {
	ID, Name string
	// Roles that it was given. It has those that its maker may lend it: see
	// Authenticate.
	Roles Set
	// May are those that it has at this moment, where Tokens, CreateToken or
	// RevokeToken tell it.
	May Set
	// own are those of them that the maker had himself when he made it.
	own     Set
	Created time.Time
	By      Subject
	Expires time.Time
	// Used is when it was last used, to the minute.
	Used    time.Time
	Revoked time.Time
}
