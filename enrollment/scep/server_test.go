package scep

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

func newClient(t *testing.T, w *enrolltest.World, legacy bool) *client {
	t.Helper()
	h, ra := newServer(t, w, legacy)
	return &client{t: t, url: w.Serve(h).URL + "/scep", http: w.Client(nil, nil), ra: ra.Certificate, by: http.MethodPost}
}

func (c *client) get(operation string) (string, []byte) {
	c.t.Helper()
	r, err := c.http.Get(c.url + "?operation=" + operation)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Status + " " + r.Header.Get("Content-Type"), body
}

// A device enrolls with its password, loses the answer, and renews.
func TestConversation(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	c.trace = enrolltest.NewTranscript(t)
	r := c.trace
	// The serial numbers of self-signed ones are 1; names are the device's own.
	status, capabilities := c.get("GetCACaps")
	r.Line("> GET GetCACaps\n< %s\n%s", status, strings.TrimSpace(string(capabilities)))
	status, bundle := c.get("GetCACert")
	all, err := cms.ParseCertificates(bundle)
	if err != nil || len(all) != 3 || !all[0].Equal(c.ra) || !all[1].Equal(w.Chain()[0]) || !all[2].Equal(w.Chain()[1]) {
		t.Errorf("%d CA certificates, %v", len(all), err)
	}
	r.Line("> GET GetCACert\n< %s\n< authority, issuing CA, root", status)

	code, key, next := w.Request("till-1"), keys()[0], keys()[1]
	apply := order{
		kind: pkcsReq, transaction: "1F", csr: csr(t, key, code.Reveal()),
		signer: selfSigned(t, key), key: key, scheme: cms.Scheme{Cipher: cms.AES128},
	}
	wrong := apply
	other := otp.New()
	wrong.csr = csr(t, key, other.Reveal())
	r.Note("A wrong password, the right one")
	c.send(wrong)
	first := c.send(apply)
	if first.certificate == nil {
		t.Fatalf("%+v", first)
	}
	w.Verify(first.certificate, "till-1", key.Public())

	r.Note("The answer was lost: the same again, by GET too")
	c.by = http.MethodGet
	if again := c.send(apply); !again.certificate.Equal(first.certificate) {
		t.Error("another certificate in the same transaction")
	}
	c.by = http.MethodPost
	r.Note("Another key with the used password")
	stolen := order{kind: pkcsReq, transaction: "20", csr: csr(t, next, code.Reveal()), signer: selfSigned(t, next), key: next}
	c.send(stolen)

	r.Note("The next certificate, for the present one; again after a lost answer")
	renewal := order{kind: renewalReq, transaction: "21", csr: csr(t, next, ""), signer: first.certificate, key: key, scheme: cms.Scheme{Cipher: cms.AES256}}
	second := c.send(renewal)
	w.Verify(second.certificate, "till-1", next.Public())
	if again := c.send(renewal); !again.certificate.Equal(second.certificate) {
		t.Error("another certificate in the same transaction")
	}
	r.Note("Some send a renewal as a PKCSReq")
	asRequest := renewal
	asRequest.kind = pkcsReq
	if again := c.send(asRequest); !again.certificate.Equal(second.certificate) {
		t.Error("another certificate for the same key")
	}
	r.Note("Neither a password nor a certificate")
	c.send(order{kind: pkcsReq, transaction: "22", csr: csr(t, next, ""), signer: selfSigned(t, next), key: next})
	r.Note("What isn't done here")
	for _, kind := range []messageType{certPoll, getCert, getCRL, certRep, 99} {
		c.send(order{kind: kind, transaction: "23", csr: []byte{0x30, 0}, signer: first.certificate, key: key})
	}
	r.Golden("conversation")
	if n := len(w.Recorded()); n != 2 {
		t.Errorf("%d certificates recorded, want 2", n)
	}
}

func TestSchemes(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	old := newClient(t, w, true)
	if _, capabilities := c.get("GetCACaps"); bytes.Contains(capabilities, []byte("DES")) || bytes.Contains(capabilities, []byte("SHA-1")) {
		t.Errorf("capabilities %s", capabilities)
	}
	if _, capabilities := old.get("GetCACaps"); !bytes.Contains(capabilities, []byte("DES3\n")) || !bytes.Contains(capabilities, []byte("SHA-1\n")) {
		t.Errorf("capabilities of legacy %s", capabilities)
	}
	key := keys()[0]
	for _, a := range []struct {
		scheme cms.Scheme
		digest crypto.Hash
		legacy bool
	}{
		{cms.Scheme{Cipher: cms.AES256}, crypto.SHA256, false},
		{cms.Scheme{Cipher: cms.AES128}, crypto.SHA512, false},
		{cms.Scheme{Cipher: cms.AES128, OAEP: crypto.SHA256}, crypto.SHA256, false},
		{cms.Scheme{Cipher: cms.DES3}, crypto.SHA256, true},
		{cms.Scheme{Cipher: cms.AES128}, crypto.SHA1, true},
	} {
		code := w.Request("phone")
		o := order{
			kind: pkcsReq, transaction: "1", csr: csr(t, key, code.Reveal()),
			signer: selfSigned(t, key), key: key, scheme: a.scheme, digest: a.digest,
		}
		if a.legacy {
			if a.digest == crypto.SHA1 {
				message, _ := c.build(o)
				if r, body := c.raw(message); r.StatusCode != http.StatusBadRequest {
					t.Errorf("%+v, %v: %s: %s", a.scheme, a.digest, r.Status, body)
				}
			} else if got := c.send(o); got.status != "2" || got.info != "0" {
				t.Errorf("%+v, %v: %+v", a.scheme, a.digest, got)
			}
			o.envelope = nil
			to := *old
			if got := to.send(o); got.status != "0" {
				t.Errorf("%+v, %v with legacy: %+v", a.scheme, a.digest, got)
			}
			continue
		}
		if got := c.send(o); got.status != "0" {
			t.Errorf("%+v, %v: %+v", a.scheme, a.digest, got)
		}
	}
}

// Whoever doesn't know a password can't tell requests apart.
func TestSecretReasonsLookAlike(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	key := keys()[0]
	apply := func(challenge string) result {
		return c.send(order{kind: pkcsReq, transaction: "1", csr: csr(t, key, challenge), signer: selfSigned(t, key), key: key})
	}
	open, cancelled, expired := w.Request("a"), w.Request("b"), w.Request("c")
	w.Cancel(cancelled)
	other := otp.New()
	want := apply((&otp.Code{ID: open.ID, Password: other.Password}).Reveal())
	if want.status != "2" || want.info != "2" {
		t.Fatalf("%+v", want)
	}
	check := func(name, challenge string) {
		t.Helper()
		if got := apply(challenge); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	check("unknown", other.Reveal())
	check("cancelled", cancelled.Reveal())
	check("a password alone", open.Password.Reveal())
	check("something else", "secret")
	w.Turn(9 * time.Hour)
	check("expired", expired.Reveal())
}

// Somebody who has seen a message can't use its envelope for himself, nor learn
// what is in it by changing it.
func TestStolenEnvelope(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	code, key, thief := w.Request("till-1"), keys()[0], keys()[1]
	to, err := cms.PartyOf(c.ra)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := cms.Seal(csr(t, key, code.Reveal()), to, cms.Scheme{Cipher: cms.AES128})
	if err != nil {
		t.Fatal(err)
	}
	send := func(kind messageType, envelope []byte) result {
		return c.send(order{kind: kind, transaction: "1", envelope: envelope, signer: selfSigned(t, thief), key: thief})
	}
	if got := send(pkcsReq, envelope); got.status != "2" || got.info != "1" {
		t.Errorf("in a message of his own: %+v", got)
	}
	if got := send(getCRL, envelope); got.status != "2" {
		t.Errorf("as another message: %+v", got)
	}
	want := result{status: "2", info: "1", text: wrongEnvelope.text}
	for _, at := range []int{1, 16, 17, 40, 200} {
		changed := bytes.Clone(envelope)
		changed[len(changed)-at] ^= 0x55
		if got := send(pkcsReq, changed); got != want {
			t.Errorf("changed %d octets before the end: %+v, want %+v", at, got, want)
		}
	}
	if n := len(w.Recorded()); n != 0 {
		t.Errorf("%d certificates came of it", n)
	}
}

func TestRefusals(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	key := keys()[0]
	device := w.Enrolled("till-1", key)
	w.RevokeCertificate(device)
	renewal := order{kind: renewalReq, transaction: "1", csr: csr(t, keys()[1], ""), signer: device, key: key}
	if got := c.send(renewal); got.status != "2" || got.info != "4" {
		t.Errorf("a revoked certificate: %+v", got)
	}
	renewal.signer = enrolltest.New(t).Enrolled("till-1", key)
	if got := c.send(renewal); got.status != "2" || got.info != "4" {
		t.Errorf("another CA's certificate: %+v", got)
	}
	ec := enrolltest.ECKey(t)
	if got := c.send(order{kind: pkcsReq, transaction: "1", csr: enrolltest.CSR(t, ec), signer: selfSigned(t, ec), key: ec}); got.info != "0" {
		t.Errorf("an ECDSA key: %+v", got)
	}
	for name, message := range map[string][]byte{
		"nothing":   nil,
		"text":      []byte("hello"),
		"no SCEP":   enrolltest.CSR(t, ec),
		"too large": make([]byte, cms.MaxSize+1),
	} {
		r, body := c.raw(message)
		if r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s: %s", name, r.Status, body)
		}
	}
	for _, operation := range []string{"", "GetNextCACert", "PKIOperation&message=***"} {
		if status, body := c.get(operation); !strings.HasPrefix(status, "400") {
			t.Errorf("%s: %s: %s", operation, status, body)
		}
	}
}

func TestLimitedAndBroken(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w, false)
	key := keys()[0]
	wrong := otp.New()
	message, _ := c.build(order{kind: pkcsReq, transaction: "1", csr: csr(t, key, wrong.Reveal()), signer: selfSigned(t, key), key: key})
	limited := false
	for range 100 {
		r, _ := c.raw(message)
		if limited = r.StatusCode == http.StatusTooManyRequests; limited {
			if r.Header.Get("Retry-After") == "" {
				t.Error("it doesn't say when to come back")
			}
			break
		}
	}
	if !limited {
		t.Error("a hundred wrong tries from one address")
	}
	certificate, raKey := w.Authority()
	ra := Authority{certificate, raKey}
	broken := New(Options{
		Enroller: enrolltest.Broken{Err: errors.New("database is away")}, Authority: func() Authority { return ra }, Chain: w.Chain, Log: w.Log,
	})
	b := &client{t: t, url: w.Serve(broken).URL, http: c.http, ra: ra.Certificate, by: http.MethodPost}
	message, _ = b.build(order{kind: pkcsReq, transaction: "1", csr: csr(t, key, wrong.Reveal()), signer: selfSigned(t, key), key: key})
	r, body := b.raw(message)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || bytes.Contains(body, []byte("database")) {
		t.Errorf("without a database: %s: %s", r.Status, body)
	}
}
