package profile

import (
	"fmt"
	"slices"
	"strings"
)

// cipher of a proposal.
type cipher struct {
	bits int
	mode mode
}

type mode int

const (
	cbc mode = iota
	gcm
	chacha
)

func (c cipher) aead() bool { return c.mode != cbc }

// suite is a parsed proposal. Hashes are SHA-2 lengths in bits, 0 for none;
// group is the IANA number of the key exchange method, 0 for none.
type suite struct {
	cipher
	integ, prf int
	group      int
	text       string
}

var (
	ciphers = map[string]cipher{
		"aes128": {128, cbc}, "aes192": {192, cbc}, "aes256": {256, cbc},
		"aes128gcm16": {128, gcm}, "aes192gcm16": {192, gcm}, "aes256gcm16": {256, gcm},
		"chacha20poly1305": {256, chacha},
	}
	integrities = map[string]int{"sha256": 256, "sha384": 384, "sha512": 512}
	prfs        = map[string]int{"prfsha256": 256, "prfsha384": 384, "prfsha512": 512}
	groups      = map[string]int{
		"modp2048": 14, "modp3072": 15, "modp4096": 16,
		"ecp256": 19, "ecp384": 20, "ecp521": 21, "x25519": 31, "curve25519": 31,
	}
)

// parse reads ENCRYPTION[-INTEGRITY][-PRF][-GROUP]. Without a PRF it is that
// of the integrity algorithm's hash. ok is false for what isn't in the tables,
// old algorithms among it: no profile asks for them.
func parse(text string) (s suite, ok bool) {
	parts := strings.Split(text, "-")
	s.text = text
	if s.cipher, ok = ciphers[parts[0]]; !ok {
		return s, false
	}
	for _, part := range parts[1:] {
		if n, ok := integrities[part]; ok && s.integ == 0 {
			s.integ = n
		} else if n, ok := prfs[part]; ok && s.prf == 0 {
			s.prf = n
		} else if n, ok := groups[part]; ok && s.group == 0 {
			s.group = n
		} else {
			return s, false
		}
	}
	return s, s.aead() == (s.integ == 0)
}

// parseIKE wants a PRF and a group too.
func parseIKE(text string) (suite, bool) {
	s, ok := parse(text)
	if s.prf == 0 {
		s.prf = s.integ
	}
	return s, ok && s.prf != 0 && s.group != 0
}

// parseESP wants no PRF; a group means perfect forward secrecy of rekeying.
func parseESP(text string) (suite, bool) {
	s, ok := parse(text)
	return s, ok && s.prf == 0
}

// first of the proposals that a client can do; can names what it can.
func first[T any](proposals []string, parse func(string) (suite, bool), translate func(suite) (T, bool), can string) (T, suite, error) {
	for _, text := range proposals {
		if s, ok := parse(text); ok {
			if t, ok := translate(s); ok {
				return t, s, nil
			}
		}
	}
	var none T
	return none, suite{}, fmt.Errorf("%w: it can %s; the gateway has %s", ErrNoProposal, can, strings.Join(proposals, ", "))
}

// known are the proposals that parse.
func known(proposals []string, parse func(string) (suite, bool)) []string {
	return slices.DeleteFunc(slices.Clone(proposals), func(text string) bool {
		_, ok := parse(text)
		return !ok
	})
}
