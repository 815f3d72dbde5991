package access

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind of a subject: how it shows who it is.
type Kind string

// Kinds.
const (
	// ByCertificate: an administrator's certificate of the installation; the name
	// is that in it.
	ByCertificate Kind = "certificate"
	// ByToken: a bearer token.
	ByToken Kind = "token"
	// ByHost: a user of the server's own host, told by the kernel.
	ByHost Kind = "local"
)

// Subject is who may: "certificate:alice", "token:inventory", "local:root". The
// zero Subject is a stranger.
type Subject struct {
	Kind Kind
	Name string
}

func (s Subject) String() string {
	if s == (Subject{}) {
		return ""
	}
	return string(s.Kind) + ":" + s.Name
}

// MaxName of subjects and tokens in octets.
const MaxName = 100

// ParseSubject reads what String writes.
func ParseSubject(text string) (Subject, error) {
	kind, name, ok := strings.Cut(text, ":")
	switch k := Kind(kind); {
	case !ok, k != ByCertificate && k != ByToken && k != ByHost:
		return Subject{}, fmt.Errorf("%w: %.120q is nobody: want certificate:NAME or local:USER", ErrInvalid, text)
	case !IsName(name):
		return Subject{}, fmt.Errorf("%w: %.120q: a name has 1 to %d octets, and no control characters", ErrInvalid, name, MaxName)
	default:
		return Subject{k, name}, nil
	}
}

// IsName says whether a subject or token may be called so.
func IsName(s string) bool {
	return s != "" && len(s) <= MaxName && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
