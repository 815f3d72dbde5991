package enroll

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
)

// Policy of what is given to whom. The zero value of a field means its
// default.
type Policy struct {
	// Valid is how long a request is open if its maker doesn't say (8 hours),
	// MaxValid the longest that may be asked for (7 days).
	Valid    time.Duration
	MaxValid time.Duration
	// Lifetime of device certificates (ca.DeviceLifetime).
	Lifetime time.Duration
	// RenewBefore its end a certificate may be renewed (a third of Lifetime).
	RenewBefore time.Duration
	// Renewals of one device in 24 hours (4).
	Renewals int
	// Ed25519 keys are taken; the systems' own clients of Windows, iOS and
	// Android don't have them.
	Ed25519 bool
	// Guesses that are wrong close a request (10,000,000, of 2^80 passwords).
	// This is far above what a network that is let in with 50 requests a second
	// can do in the life of a request: who knows an ID, or the name of a user,
	// can't close requests cheaply.
	Guesses int64
	// OpenPerUser bounds a user's open requests (16).
	OpenPerUser int
	// SourceBurst wrong tries may come from one source prefix at once (20),
	// then one each SourceEvery (3 seconds).
	SourceBurst int
	SourceEvery time.Duration
	// ProofBurst proofs may be asked for from one source prefix at once (500),
	// then one each ProofEvery (20 milliseconds). A device asks once or twice,
	// and a carrier has many behind one address.
	ProofBurst int
	ProofEvery time.Duration
	// CRLLifetime from thisUpdate to nextUpdate (ca.CRLLifetime).
	CRLLifetime time.Duration
	// CompleteUpTo is how many entries a complete revocation list may have to
	// be made anew at each revocation (10,000); beyond, there are deltas, and a
	// complete one each CompleteEvery (15 minutes), because gateways read no
	// deltas.
	CompleteUpTo  int64
	CompleteEvery time.Duration
}

func (p Policy) withDefaults() (Policy, error) {
	set(&p.Valid, 8*time.Hour)
	set(&p.MaxValid, 7*24*time.Hour)
	set(&p.Lifetime, ca.DeviceLifetime)
	set(&p.RenewBefore, p.Lifetime/3)
	set(&p.Renewals, 4)
	set(&p.Guesses, 10_000_000)
	set(&p.OpenPerUser, 16)
	set(&p.SourceBurst, 20)
	set(&p.SourceEvery, 3*time.Second)
	set(&p.ProofBurst, 500)
	set(&p.ProofEvery, 20*time.Millisecond)
	set(&p.CRLLifetime, ca.CRLLifetime)
	set(&p.CompleteUpTo, 10_000)
	set(&p.CompleteEvery, 15*time.Minute)
	switch {
	case p.Valid < time.Minute || p.Valid > p.MaxValid:
		return p, fmt.Errorf("a request's life %s is not in 1m..%s", p.Valid, p.MaxValid)
	case p.Lifetime < time.Minute:
		return p, fmt.Errorf("lifetime %s of device certificates is below a minute", p.Lifetime)
	case p.RenewBefore < 0 || p.RenewBefore > p.Lifetime:
		return p, fmt.Errorf("renewal %s before the end of a lifetime of %s", p.RenewBefore, p.Lifetime)
	case p.Renewals < 0 || p.Guesses < 1 || p.OpenPerUser < 1 || p.OpenPerUser > maxOpenPerUser || p.SourceBurst < 1 || p.SourceEvery < 0 || p.ProofBurst < 1 || p.ProofEvery < 0:
		return p, fmt.Errorf("a bound of the policy is out of range")
	case p.CRLLifetime < time.Minute || p.CompleteEvery < 0:
		return p, fmt.Errorf("lifetime %s of revocation lists is below a minute", p.CRLLifetime)
	}
	return p, nil
}

// maxOpenPerUser bounds the work for a password that comes with a user's name.
const maxOpenPerUser = 32

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Sizes of RSA keys that are taken. Larger ones cost the gateway more than
// they bring.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

var errKey = errors.New("key is not taken")

// CheckKey says why a public key is not taken.
func (p Policy) CheckKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case bits < minRSABits || bits > maxRSABits:
			return fmt.Errorf("%w: RSA of %d bits, want %d..%d", errKey, bits, minRSABits, maxRSABits)
		case key.E < 65537 || key.E%2 == 0 || key.N.Bit(0) == 0:
			return fmt.Errorf("%w: RSA with an unusual modulus or exponent", errKey)
		}
		return nil
	case ed25519.PublicKey:
		if p.Ed25519 && len(key) == ed25519.PublicKeySize {
			return nil
		}
	}
	wanted := "ECDSA P-256 or P-384, or RSA"
	if p.Ed25519 {
		wanted = "ECDSA P-256 or P-384, Ed25519, or RSA"
	}
	return fmt.Errorf("%w: want %s", errKey, wanted)
}
