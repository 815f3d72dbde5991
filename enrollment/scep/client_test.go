package scep

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// newServer is a world's SCEP server.
func newServer(t *testing.T, w *enrolltest.World, legacy bool) (http.Handler, Authority) {
	t.Helper()
	certificate, key := w.Authority()
	ra := Authority{certificate, key}
	return New(Options{Enroller: w, Authority: func() Authority { return ra }, Chain: w.Chain, Legacy: legacy, Log: w.Log}), ra
}

var keys = enrolltest.RSAKeys

// client of a test, strict about what it gets.
type client struct {
	t     testing.TB
	url   string
	http  *http.Client
	ra    *x509.Certificate
	by    string // http.MethodPost, or GET
	trace *enrolltest.Transcript
}

// order is a message to be sent.
type order struct {
	kind        messageType
	transaction string
	csr         []byte
	signer      *x509.Certificate
	key         crypto.Signer
	scheme      cms.Scheme
	digest      crypto.Hash
	// envelope in place of one around csr.
	envelope []byte
}

func selfSigned(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "whoever"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func csr(t testing.TB, key *rsa.PrivateKey, challenge string) []byte {
	if challenge == "" {
		return enrolltest.CSR(t, key)
	}
	return enrolltest.ChallengeCSR(t, key, challenge)
}

// build the message and its nonce.
func (c *client) build(o order) (message, nonce []byte) {
	c.t.Helper()
	if o.digest == 0 {
		o.digest = crypto.SHA256
	}
	if o.scheme.Cipher == 0 {
		o.scheme.Cipher = cms.AES128
	}
	if o.envelope == nil {
		to, err := cms.PartyOf(c.ra)
		if err != nil {
			c.t.Fatal(err)
		}
		if o.envelope, err = cms.Seal(o.csr, to, o.scheme); err != nil {
			c.t.Fatal(err)
		}
	}
	nonce = make([]byte, nonceSize)
	rand.Read(nonce)
	message, err := cms.Sign(o.envelope, []cms.Attribute{
		printable(oidMessageType, strconv.Itoa(int(o.kind))),
		printable(oidTransactionID, o.transaction),
		octets(oidSenderNonce, nonce),
	}, o.signer, o.key, o.digest)
	if err != nil {
		c.t.Fatal(err)
	}
	return message, nonce
}

// raw sends octets and returns status and body.
func (c *client) raw(message []byte) (*http.Response, []byte) {
	c.t.Helper()
	var r *http.Response
	var err error
	if c.by == http.MethodGet {
		r, err = c.http.Get(c.url + "?operation=PKIOperation&message=" + url.QueryEscape(base64.StdEncoding.EncodeToString(message)))
	} else {
		r, err = c.http.Post(c.url+"?operation=PKIOperation", "application/x-pki-message", bytes.NewReader(message))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r, body
}

// result of an operation.
type result struct {
	status, info string
	text         string
	certificate  *x509.Certificate
}

// send a message and check that the answer is one to it.
func (c *client) send(o order) result {
	c.t.Helper()
	message, nonce := c.build(o)
	if c.trace != nil {
		c.trace.Line("> %s messageType %d, transaction %s, signed by %s", c.by, o.kind, o.transaction, o.signer.Subject)
	}
	r, body := c.raw(message)
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/x-pki-message" {
		c.t.Fatalf("%s, %s: %s", r.Status, r.Header.Get("Content-Type"), body)
	}
	signed, err := cms.ParseSigned(body, true)
	if err != nil {
		c.t.Fatal(err)
	}
	if !bytes.Equal(signed.Signer.Raw, c.ra.Raw) {
		c.t.Error("not signed by the authority")
	}
	text := func(oid asn1.ObjectIdentifier) string {
		s, _ := readText(signed.Attribute(oid))
		return s
	}
	if text(oidMessageType) != "3" || text(oidTransactionID) != o.transaction {
		c.t.Errorf("answer of type %s to transaction %q", text(oidMessageType), text(oidTransactionID))
	}
	var back cryptobyte.String
	if v := cryptobyte.String(signed.Attribute(oidRecipientNonce)); !v.ReadASN1(&back, tags.OCTET_STRING) || !bytes.Equal(back, nonce) {
		c.t.Errorf("nonce %x, want %x", back, nonce)
	}
	var own cryptobyte.String
	if v := cryptobyte.String(signed.Attribute(oidSenderNonce)); !v.ReadASN1(&own, tags.OCTET_STRING) || len(own) != nonceSize {
		c.t.Errorf("nonce of the sender %x", own)
	}
	out := result{status: text(oidPKIStatus), info: text(oidFailInfo), text: text(oidFailInfoText)}
	if out.status == "0" {
		out.certificate = c.opened(o, signed.Content)
	} else if len(signed.Content) != 0 {
		c.t.Error("a failure with content")
	}
	if c.trace != nil {
		line := "< messageType 3, pkiStatus " + out.status
		if out.info != "" {
			line += fmt.Sprintf(", failInfo %s: %s", out.info, out.text)
		}
		if out.certificate != nil {
			line += ", certificate of " + out.certificate.Subject.String()
		}
		c.trace.Line("%s", line)
	}
	return out
}

func (c *client) opened(o order, envelope []byte) *x509.Certificate {
	c.t.Helper()
	bundle, scheme, err := cms.Open(envelope, o.signer, o.key.(crypto.Decrypter), true)
	if err != nil {
		c.t.Fatal(err)
	}
	if o.scheme.Cipher != 0 && scheme != o.scheme {
		c.t.Errorf("answered by %+v to %+v", scheme, o.scheme)
	}
	all, err := cms.ParseCertificates(bundle)
	if err != nil || len(all) != 1 {
		c.t.Fatalf("%d certificates, %v", len(all), err)
	}
	return all[0]
}
