package scep

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/roamgate/roamgate/enrollment/cms"
)

// messageType, RFC 8894 section 3.2.1.2.
type messageType int

const (
	certRep    messageType = 3
	renewalReq messageType = 17
	updateReq  messageType = 18 // of drafts: as renewalReq
	pkcsReq    messageType = 19
	certPoll   messageType = 20
	getCert    messageType = 21
	getCRL     messageType = 22
)

// failInfo, RFC 8894 section 3.2.1.4.
type failInfo int

const (
	badAlg          failInfo = 0
	badMessageCheck failInfo = 1
	badRequest      failInfo = 2
	badCertID       failInfo = 4
)

// pkiStatus, RFC 8894 section 3.2.1.3.
const (
	success = 0
	failure = 2
)

// Bounds of attributes in octets.
const (
	maxTransaction = 255
	maxNonce       = 64
	nonceSize      = 16
)

// Attributes of a message, RFC 8894 section 3.2.1.
var (
	oidMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	oidFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	oidSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	oidRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	oidTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	oidFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
)

var errMessage = errors.New("not a SCEP message")

// message is a pkiMessage whose signature is right. Its envelope is closed.
type message struct {
	kind        messageType
	transaction string
	nonce       []byte
	envelope    []byte
	signer      cms.Party
	digest      crypto.Hash
}

func parseMessage(data []byte, legacy bool) (*message, error) {
	signed, err := cms.ParseSigned(data, legacy)
	if err != nil {
		return nil, err
	}
	m := &message{envelope: signed.Content, signer: signed.Signer, digest: signed.Digest}
	kind, ok := readText(signed.Attribute(oidMessageType))
	if !ok {
		return nil, fmt.Errorf("%w: no message type", errMessage)
	}
	number, err := strconv.Atoi(kind)
	if err != nil {
		return nil, fmt.Errorf("%w: message type %q", errMessage, kind)
	}
	m.kind = messageType(number)
	if m.transaction, ok = readText(signed.Attribute(oidTransactionID)); !ok {
		return nil, fmt.Errorf("%w: no transaction ID", errMessage)
	}
	var nonce cryptobyte.String
	if v := cryptobyte.String(signed.Attribute(oidSenderNonce)); !v.ReadASN1(&nonce, tags.OCTET_STRING) ||
		len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, fmt.Errorf("%w: no sender nonce", errMessage)
	}
	m.nonce = nonce
	return m, nil
}

// readText reads a PrintableString, or what else is sent in its place.
func readText(element cryptobyte.String) (string, bool) {
	var text cryptobyte.String
	var tag tags.Tag
	if !element.ReadAnyASN1(&text, &tag) || len(text) == 0 || len(text) > maxTransaction {
		return "", false
	}
	switch tag {
	case tags.PrintableString, tags.UTF8String, tags.IA5String:
	default:
		return "", false
	}
	for _, c := range text {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return string(text), true
}

// reply makes a CertRep, RFC 8894 section 3.3.2, to a message.
func (m *message) reply(ra Authority, status int, content []byte, more ...cms.Attribute) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	attributes := append([]cms.Attribute{
		printable(oidMessageType, strconv.Itoa(int(certRep))),
		printable(oidTransactionID, m.transaction),
		printable(oidPKIStatus, strconv.Itoa(status)),
		octets(oidRecipientNonce, m.nonce),
		octets(oidSenderNonce, nonce),
	}, more...)
	return cms.Sign(content, attributes, ra.Certificate, ra.Key, m.digest)
}

// issued is the answer to a request that was granted.
func (m *message) issued(ra Authority, scheme cms.Scheme, certificate *x509.Certificate) ([]byte, error) {
	bundle, err := cms.Certificates([]*x509.Certificate{certificate})
	if err != nil {
		return nil, err
	}
	envelope, err := cms.Seal(bundle, m.signer, scheme)
	if err != nil {
		return nil, err
	}
	return m.reply(ra, success, envelope)
}

// failed is the answer to a request that wasn't.
func (m *message) failed(ra Authority, f refusal) ([]byte, error) {
	var text cryptobyte.Builder
	text.AddASN1(tags.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(f.text)) })
	return m.reply(ra, failure, nil,
		printable(oidFailInfo, strconv.Itoa(int(f.info))),
		cms.Attribute{Type: oidFailInfoText, Value: text.BytesOrPanic()})
}

// printable takes what readText let through, and numbers: a transaction ID goes
// back as it came, even if not every character belongs into a PrintableString.
func printable(oid asn1.ObjectIdentifier, text string) cms.Attribute {
	var b cryptobyte.Builder
	b.AddASN1(tags.PrintableString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
	return cms.Attribute{Type: oid, Value: b.BytesOrPanic()}
}

func octets(oid asn1.ObjectIdentifier, value []byte) cms.Attribute {
	var b cryptobyte.Builder
	b.AddASN1OctetString(value)
	return cms.Attribute{Type: oid, Value: b.BytesOrPanic()}
}
