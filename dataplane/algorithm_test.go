package dataplane

import "testing"

// Each known algorithm has its lengths and its name, and a combination that is
// none has no lengths.
func TestAlgorithms(t *testing.T) {
	for _, c := range []struct {
		alg                   Algorithm
		encryption, integrity int
		legacy                bool
		name                  string
	}{
		{Algorithm{20, 128, 0}, 20, 0, false, "AES_GCM_16_128"},
		{Algorithm{20, 192, 0}, 28, 0, false, "AES_GCM_16_192"},
		{Algorithm{20, 256, 0}, 36, 0, false, "AES_GCM_16_256"},
		{Algorithm{28, 0, 0}, 36, 0, false, "CHACHA20_POLY1305"},
		{Algorithm{12, 128, 12}, 16, 32, false, "AES_CBC_128/HMAC_SHA2_256_128"},
		{Algorithm{12, 192, 13}, 24, 48, false, "AES_CBC_192/HMAC_SHA2_384_192"},
		{Algorithm{12, 256, 14}, 32, 64, false, "AES_CBC_256/HMAC_SHA2_512_256"},
		{Algorithm{12, 256, 2}, 32, 20, true, "AES_CBC_256/HMAC_SHA1_96"},
		{Algorithm{3, 0, 2}, 24, 20, true, "3DES/HMAC_SHA1_96"},
		{Algorithm{3, 0, 12}, 24, 32, true, "3DES/HMAC_SHA2_256_128"},
	} {
		encryption, integrity, ok := c.alg.KeyLengths()
		if encryption != c.encryption || integrity != c.integrity || !ok || c.alg.Legacy() != c.legacy || c.alg.String() != c.name {
			t.Errorf("%v: %d and %d octets, %t; legacy %t; want %+v", c.alg, encryption, integrity, ok, c.alg.Legacy(), c)
		}
	}
	for _, c := range []struct {
		alg  Algorithm
		name string
	}{
		{Algorithm{}, "ENCR_0"},
		{Algorithm{11, 0, 12}, "ENCR_11/HMAC_SHA2_256_128"}, // ENCR_NULL
		{Algorithm{11, 0, 0}, "ENCR_11"},
		{Algorithm{2, 0, 2}, "ENCR_2/HMAC_SHA1_96"}, // single DES
		{Algorithm{20, 0, 0}, "AES_GCM_16"},
		{Algorithm{20, 512, 0}, "AES_GCM_16_512"},
		{Algorithm{20, 128, 12}, "AES_GCM_16_128/HMAC_SHA2_256_128"},
		{Algorithm{28, 256, 0}, "CHACHA20_POLY1305_256"},
		{Algorithm{28, 0, 12}, "CHACHA20_POLY1305/HMAC_SHA2_256_128"},
		{Algorithm{12, 128, 0}, "AES_CBC_128"},
		{Algorithm{12, 0, 12}, "AES_CBC/HMAC_SHA2_256_128"},
		{Algorithm{12, 128, 1}, "AES_CBC_128/INTEG_1"},
		{Algorithm{3, 192, 2}, "3DES_192/HMAC_SHA1_96"},
		{Algorithm{3, 0, 0}, "3DES"},
	} {
		if _, _, ok := c.alg.KeyLengths(); ok || c.alg.String() != c.name {
			t.Errorf("%v is an algorithm: %t; want none, named %s", c.alg, ok, c.name)
		}
	}
}
