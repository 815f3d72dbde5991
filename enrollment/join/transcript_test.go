package join

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// octets from one number on.
func octets(from int) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(from + i)
	}
	return b
}

// talk is a conversation of which every octet is known.
type talk struct {
	binding, nonce, serverNonce, csr []byte
	versions                         []int
	request                          string
	version                          int
	trust                            Trust
	answer                           CertificateResponse
}

func known() talk {
	return talk{
		binding: octets(0), nonce: octets(32), serverNonce: octets(64), csr: []byte("CSR"),
		versions: []int{7, 1}, request: "xk7m29qa", version: 1,
		trust: Trust{
			Instance: "Example", InstanceOID: "2.25.1", Server: "enroll.example.com",
			Root: []byte("ROOT"), Chain: [][]byte{[]byte("ISSUING"), []byte("ROOT")},
		},
		answer: CertificateResponse{
			Certificate: []byte("CERTIFICATE"), Chain: [][]byte{[]byte("ISSUING"), []byte("ROOT")},
			RenewFrom: 1800000000, Configuration: []byte(`{"a":1}`),
		},
	}
}

func testKey(t *testing.T) (key, bound []byte) {
	t.Helper()
	code, err := otp.ParseCode("XK7M-29QA-8R2N-W4TB-0HJD-6YEV")
	if err != nil {
		t.Fatal(err)
	}
	key = code.Password.Key(code.ID)
	hash := sha256.Sum256([]byte("SPKI"))
	return key, otp.Bind(key, hash[:])
}

func (k *talk) hello() Hello {
	return Hello{Versions: k.versions, Request: k.request, Nonce: k.nonce}
}

func (k *talk) inquiry() *Inquiry {
	return &Inquiry{Binding: k.binding, DiscoverRequest: DiscoverRequest{Hello: k.hello()}}
}

// macs of a whole conversation, in the order in which they are made.
func (k *talk) macs(key, bound []byte) [][]byte {
	q := k.inquiry()
	q.Sign(key)
	found, _ := q.Answer(key, "enroll2.example.com")
	hello := k.hello()
	c := Begin(k.binding, &hello, k.version, k.serverNonce, &k.trust)
	macs := [][]byte{q.MAC, found.MAC, c.TrustMAC(key)}
	c.Request(k.csr)
	macs = append(macs, c.RequestMAC(bound))
	c.Answer(&k.answer)
	return append(macs, c.AnswerMAC(bound))
}

// The wanted values come from another program, which shares no code with this
// one: HKDF and HMAC written down from RFC 5869 and RFC 2104.
func TestMACs(t *testing.T) {
	k := known()
	for i, want := range []string{
		"d61a2da7d7e5678bfcdc24b785be3c7f89270e95a4a7894b7483ac5c46d14c97",
		"bad65d7294a36fc8e8b2ad82010e5ef0edcd42110317d49acf794cc5ad8880de",
		"e688cc1901e3e89ac533cd2e818c674446e29289248f85f30834946d2a283520",
		"cfa661989d387d1a53c905e6c0370e630ca45a9499aae397087b896a243ba617",
		"c083049bbb9d90d46eb9ccdfa566233abc6149bedf385456cb44c061908b2cda",
	} {
		if got := hex.EncodeToString(k.macs(testKey(t))[i]); got != want {
			t.Errorf("MAC %d is %s, want %s", i, got, want)
		}
	}
}

// Whatever is changed, of all that was said until then, changes each MAC from
// there on, and the MACs before stay what they were.
func TestEachFieldCounts(t *testing.T) {
	k := known()
	before := k.macs(testKey(t))
	for name, c := range map[string]struct {
		change func(*talk)
		// from is the first MAC of the conversation that has to change; the two
		// of discovery change if discover is set.
		from     int
		discover bool
	}{
		"binding":        {func(k *talk) { k.binding[31] ^= 1 }, 2, true},
		"version gone":   {func(k *talk) { k.versions = k.versions[1:] }, 2, true},
		"version other":  {func(k *talk) { k.versions = []int{6, 1} }, 2, true},
		"order":          {func(k *talk) { slices.Reverse(k.versions) }, 2, true},
		"request":        {func(k *talk) { k.request = "XK7M-29QB" }, 2, true},
		"nonce":          {func(k *talk) { k.nonce[0] ^= 1 }, 2, true},
		"chosen version": {func(k *talk) { k.version = 7 }, 2, false},
		"server's nonce": {func(k *talk) { k.serverNonce[0] ^= 1 }, 2, false},
		"instance":       {func(k *talk) { k.trust.Instance = "Example2" }, 2, false},
		"oid":            {func(k *talk) { k.trust.InstanceOID = "2.25.2" }, 2, false},
		"server":         {func(k *talk) { k.trust.Server = "evil.example.com" }, 2, false},
		"moved octet":    {func(k *talk) { k.trust.Instance, k.trust.InstanceOID = "Example2", ".25.1" }, 2, false},
		"root":           {func(k *talk) { k.trust.Root = []byte("TOOR") }, 2, false},
		"chain":          {func(k *talk) { k.trust.Chain = k.trust.Chain[:1] }, 2, false},
		"chain joined":   {func(k *talk) { k.trust.Chain = [][]byte{[]byte("ISSUINGROOT")} }, 2, false},
		"csr":            {func(k *talk) { k.csr = []byte("CSS") }, 3, false},
		"certificate":    {func(k *talk) { k.answer.Certificate = []byte("CERTIFICATF") }, 4, false},
		"its chain":      {func(k *talk) { k.answer.Chain = nil }, 4, false},
		"renewal":        {func(k *talk) { k.answer.RenewFrom++ }, 4, false},
		"configuration":  {func(k *talk) { k.answer.Configuration = []byte(`{"a":2}`) }, 4, false},
	} {
		k := known()
		c.change(&k)
		for i, after := range k.macs(testKey(t)) {
			changes := i >= c.from || i < 2 && c.discover
			if changed := !bytes.Equal(after, before[i]); changed != changes {
				t.Errorf("%s: MAC %d changed: %v, want %v", name, i, changed, changes)
			}
		}
	}
}

// No MAC is good in the place of another, and none without its key.
func TestNoMACFitsElsewhere(t *testing.T) {
	k := known()
	key, bound := testKey(t)
	macs := k.macs(key, bound)
	other, _ := testKey(t)
	other[0] ^= 1
	verify := func(place int, key, bound, mac []byte) bool {
		q := k.inquiry()
		q.MAC = macs[0]
		hello := k.hello()
		c := Begin(k.binding, &hello, k.version, k.serverNonce, &k.trust)
		switch place {
		case 0:
			q.MAC = mac
			_, ok := q.Answer(key, "enroll2.example.com")
			return ok
		case 1:
			return q.Verify(key, Server{Name: "enroll2.example.com", MAC: mac})
		case 2:
			return c.VerifyTrust(key, mac)
		}
		c.Request(k.csr)
		if place == 3 {
			return c.VerifyRequest(bound, mac)
		}
		c.Answer(&k.answer)
		return c.VerifyAnswer(bound, mac)
	}
	for place := range macs {
		for i, mac := range macs {
			if got := verify(place, key, bound, mac); got != (i == place) {
				t.Errorf("MAC %d in place %d: accepted %v", i, place, got)
			}
		}
		if verify(place, other, other, macs[place]) {
			t.Errorf("MAC %d is accepted under another key", place)
		}
		for _, short := range [][]byte{nil, macs[place][:31], append(bytes.Clone(macs[place]), 0)} {
			if verify(place, key, bound, short) {
				t.Errorf("MAC %d is accepted with %d octets", place, len(short))
			}
		}
	}
}

func TestAnswerOnlyToWhoKnows(t *testing.T) {
	k := known()
	key, _ := testKey(t)
	q := k.inquiry()
	q.Sign(key)
	q.MAC[5] ^= 1
	if s, ok := q.Answer(key, "enroll2.example.com"); ok || s.MAC != nil || s.Name != "" {
		t.Errorf("a wrong MAC is answered by %v", s)
	}
}
