package ikecrypto

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
)

// RFC 5723 section 5.1, written out once more with HMAC-SHA-256:
//
//	SKEYSEED = prf(SK_d_old, "Resumption" | Ni | Nr)
//	SK_d | SK_ai | ... = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)
func TestResumeKeys(t *testing.T) {
	mac := func(key []byte, data ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(bytes.Join(data, nil))
		return h.Sum(nil)
	}
	s := Suite{Encryption: ikewire.EncrAESCBC, KeyBits: 128, Integrity: ikewire.IntegHMACSHA256, PRF: ikewire.PRFHMACSHA256, Group: ikewire.GroupCurve25519}
	old, ni, nr := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 32)
	keys, err := ResumeKeys(s, old, ni, nr, 4, 5)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old, bytes.Repeat([]byte{1}, 32)) {
		t.Error("the old SK_d is the caller's")
	}
	skeyseed := mac(old, []byte("Resumption"), ni, nr)
	seed := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(bytes.Join([][]byte{ni, nr}, nil), 4), 5)
	var stream, last []byte
	for i := byte(1); len(stream) < 7*32; i++ {
		last = mac(skeyseed, last, seed, []byte{i})
		stream = append(stream, last...)
	}
	for _, k := range []struct {
		name string
		got  []byte
		n    int
	}{
		{"SK_d", keys.D, 32}, {"SK_ai", keys.Ai, 32}, {"SK_ar", keys.Ar, 32}, {"SK_ei", keys.Ei, 16}, {"SK_er", keys.Er, 16},
		{"SK_pi", keys.Pi, 32}, {"SK_pr", keys.Pr, 32},
	} {
		if !bytes.Equal(k.got, stream[:k.n]) {
			t.Errorf("%s is %x, want %x", k.name, k.got, stream[:k.n])
		}
		stream = stream[k.n:]
	}
	if _, err := ResumeKeys(Suite{}, old, ni, nr, 4, 5); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("without algorithms: %v", err)
	}
}

func TestResumeAuth(t *testing.T) {
	key, octets := []byte("SK_pi"), []byte("what is signed")
	auth := ResumeAuth(ikewire.PRFHMACSHA384, key, octets)
	if err := VerifyResumeAuth(ikewire.PRFHMACSHA384, key, auth, octets); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]error{
		"another key":  VerifyResumeAuth(ikewire.PRFHMACSHA384, []byte("SK_pr"), auth, octets),
		"other octets": VerifyResumeAuth(ikewire.PRFHMACSHA384, key, auth, []byte("something else")),
		"nothing":      VerifyResumeAuth(ikewire.PRFHMACSHA384, key, nil, octets),
		"a part":       VerifyResumeAuth(ikewire.PRFHMACSHA384, key, auth[:20], octets),
	} {
		if !errors.Is(bad, ErrAuth) {
			t.Errorf("%s: %v", name, bad)
		}
	}
}
