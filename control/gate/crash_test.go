package gate

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"
)

// request is a protected one with these SPIs, of length octets.
func protected(exchange, flags uint8, spiI, spiR uint64, length int) []byte {
	b := make([]byte, length)
	binary.BigEndian.PutUint64(b, spiI)
	binary.BigEndian.PutUint64(b[8:], spiR)
	b[16], b[17], b[18], b[19] = payloadEncrypted, version2, exchange, flags
	binary.BigEndian.PutUint32(b[20:], 7)
	binary.BigEndian.PutUint32(b[24:], uint32(length))
	return b
}

func TestAnswerCrash(t *testing.T) {
	secret := Secret{1, 2, 3}
	g, err := New(DefaultConfig(), Secret{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	buffer := make([]byte, 64)
	ask := func(b []byte) []byte {
		h, ok := readHeader(b)
		if !ok {
			t.Fatal("header")
		}
		return bytes.Clone(g.AnswerCrash(now, &h, len(b), &secret, buffer))
	}
	// The device began: ours is the responder's SPI.
	got := ask(protected(exchangeInformational, flagInitiator, 0x11, 0x22, minProtected))
	want := "0000000000000011" + "0000000000000022" + "29" + "20" + "25" + "20" + "00000007" + "0000003c" +
		"29000008" + "00000004" + "00000018" + "01004023"
	token := secret.CrashToken(0x22, 0x11)
	if len(got) != 60 || hex.EncodeToString(got[:44]) != want || !bytes.Equal(got[44:], token) {
		t.Errorf("%d octets %x, want %s and the token %x", len(got), got, want, token)
	}
	// We began: ours is the initiator's.
	got = ask(protected(exchangeCreateChild, 0, 0x11, 0x22, 200))
	if len(got) != 60 || got[19] != flagResponse|flagInitiator || !bytes.Equal(got[44:], secret.CrashToken(0x11, 0x22)) {
		t.Errorf("of an IKE SA of ours: %x", got)
	}
	if bytes.Equal(secret.CrashToken(0x11, 0x22), token) {
		t.Error("whoever clears a flag gets the token of an IKE SA that exists")
	}
	for name, b := range map[string][]byte{
		"an answer": protected(exchangeInformational, flagInitiator|flagResponse, 0x11, 0x22, 100),
		"IKE_AUTH":  protected(exchangeAuth, flagInitiator, 0x11, 0x22, 100),
		"a lever":   protected(exchangeInformational, flagInitiator, 0x11, 0x22, minProtected-1),
	} {
		if got := ask(b); got != nil {
			t.Errorf("%s is answered: %x", name, got)
		}
	}
	n := 0
	now = now.Add(time.Hour)
	for range 2 * crashAnswersPerSecond {
		if ask(protected(exchangeInformational, flagInitiator, 0x11, 0x22, 100)) != nil {
			n++
		}
	}
	if n != crashAnswersPerSecond {
		t.Errorf("%d answers in no time, want %d", n, crashAnswersPerSecond)
	}
}
