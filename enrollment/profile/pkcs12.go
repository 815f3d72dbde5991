package profile

import (
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// MinLegacyPassword is the least number of characters of a container that
// hardly slows down who guesses; MinPassword that of a current one.
const (
	MinLegacyPassword = 16
	MinPassword       = 8
)

// modernRounds of PBKDF2.
const modernRounds = 100_000

// container is a PKCS#12 file with key, certificate and intermediates. A
// legacy one is what Apple's and Android's systems of all ages read: 3DES and
// SHA-1 (RFC 7292 appendix C).
func (p *Profile) container(o Options, legacy bool) ([]byte, error) {
	least, encoder := MinPassword, pkcs12.Modern2023.WithIterations(modernRounds)
	if legacy {
		least, encoder = MinLegacyPassword, pkcs12.LegacyDES
	}
	if len(o.Password) < least {
		return nil, fmt.Errorf("%w: want %d characters or more", ErrPassword, least)
	}
	return encoder.WithRand(o.Rand).Encode(p.Key, p.Certificate, p.Intermediates, o.Password)
}

func (p *Profile) needKey(who string) error {
	if p.Key == nil {
		return fmt.Errorf("%w: %s gets its key with the profile, and there is none", ErrKey, who)
	}
	return nil
}
