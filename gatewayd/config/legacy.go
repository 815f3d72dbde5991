package config

import (
	"cmp"
	"slices"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Allowed is the switches as package ikecrypto takes them.
func (l Legacy) Allowed() ikecrypto.Legacy {
	return ikecrypto.Legacy{SHA1Signatures: l.SHA1Signatures, HMACSHA1: l.HMACSHA1, MODP1024: l.MODP1024, TripleDES: l.TripleDES}
}

// Suites for IKE SAs, best first: those of the proposals, then what the legacy
// switches add, that with the fewest legacy algorithms first.
func (g *Gateway) Suites() []ikecrypto.Suite {
	var plain []ikecrypto.Suite
	for _, p := range g.IKE.Proposals {
		plain = appendNew(plain, p.Suites...)
	}
	allowed := g.Legacy.Allowed()
	for i := range plain {
		plain[i].Allow = allowed
	}
	return append(plain, legacySuites(plain, allowed)...)
}

// legacySuites combines the legacy algorithms that are allowed with each other
// and with what the proposals have.
func legacySuites(plain []ikecrypto.Suite, allowed ikecrypto.Legacy) []ikecrypto.Suite {
	var kinds []ikecrypto.Suite // without group
	var ciphers []ikecrypto.Suite
	var hashes []function
	var keyExchanges []uint16
	for _, s := range plain {
		keyExchanges = appendNew(keyExchanges, s.Group)
		s.Group = 0
		kinds = appendNew(kinds, s)
		if s.Integrity != 0 {
			ciphers = appendNew(ciphers, ikecrypto.Suite{Encryption: s.Encryption, KeyBits: s.KeyBits, Allow: allowed})
			hashes = appendNew(hashes, function{s.Integrity, s.PRF})
		}
	}
	if ciphers == nil { // AEAD proposals only
		ciphers = []ikecrypto.Suite{
			{Encryption: ikewire.EncrAESCBC, KeyBits: 256, Allow: allowed},
			{Encryption: ikewire.EncrAESCBC, KeyBits: 128, Allow: allowed},
		}
		hashes = []function{{ikewire.IntegHMACSHA256, ikewire.PRFHMACSHA256}}
	}
	if allowed.HMACSHA1 {
		hashes = append(hashes, function{ikewire.IntegHMACSHA1, ikewire.PRFHMACSHA1})
	}
	if allowed.TripleDES {
		ciphers = append(ciphers, ikecrypto.Suite{Encryption: ikewire.Encr3DES, Allow: allowed})
	}
	if allowed.MODP1024 {
		keyExchanges = append(keyExchanges, ikewire.GroupMODP1024)
	}
	for _, s := range ciphers {
		for _, h := range hashes {
			s.Integrity, s.PRF = h.integrity, h.prf
			if s.Legacy() != (ikecrypto.Legacy{}) {
				kinds = appendNew(kinds, s)
			}
		}
	}
	var legacy []ikecrypto.Suite
	for _, s := range kinds {
		for _, s.Group = range keyExchanges {
			if s.Legacy() != (ikecrypto.Legacy{}) {
				legacy = append(legacy, s)
			}
		}
	}
	slices.SortStableFunc(legacy, func(a, b ikecrypto.Suite) int {
		return cmp.Compare(len(a.Legacy().Names()), len(b.Legacy().Names()))
	})
	return legacy
}

// Algorithms for Child SAs, best first, those that the legacy switches add
// last.
func (g *Gateway) Algorithms() []dataplane.Algorithm {
	var list, ciphers []dataplane.Algorithm
	var hashes []uint16
	for _, p := range g.ESP.Proposals {
		for _, a := range p.Algorithms {
			list = appendNew(list, a)
			if a.Integrity != 0 {
				ciphers = appendNew(ciphers, dataplane.Algorithm{Encryption: a.Encryption, KeyBits: a.KeyBits})
				hashes = appendNew(hashes, a.Integrity)
			}
		}
	}
	if ciphers == nil { // AEAD proposals only
		ciphers = []dataplane.Algorithm{{Encryption: ikewire.EncrAESCBC, KeyBits: 256}, {Encryption: ikewire.EncrAESCBC, KeyBits: 128}}
		hashes = []uint16{ikewire.IntegHMACSHA256}
	}
	if g.Legacy.HMACSHA1 {
		for _, a := range ciphers {
			a.Integrity = ikewire.IntegHMACSHA1
			list = append(list, a)
		}
		hashes = append(hashes, ikewire.IntegHMACSHA1)
	}
	if g.Legacy.TripleDES {
		for _, h := range hashes {
			list = append(list, dataplane.Algorithm{Encryption: ikewire.Encr3DES, Integrity: h})
		}
	}
	return list
}
