package join

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"

	"github.com/roamgate/roamgate/enrollment/otp"
)

// BindingSize of the channel binding in octets.
const BindingSize = 32

// Binding is the channel binding "tls-exporter" of a connection (RFC 9266):
// BindingSize octets that no other connection has, and that nobody in the
// middle can make equal on two of them.
func Binding(state *tls.ConnectionState) ([]byte, error) {
	if state == nil || state.Version < tls.VersionTLS13 {
		return nil, ErrBinding
	}
	b, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, BindingSize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBinding, err)
	}
	return b, nil
}

// Labels of the keys, one for each place and direction of a MAC. The version
// of the protocol isn't in them, but in the transcript.
const (
	labelDiscover    = "roamgate join: discover, device"
	labelFound       = "roamgate join: discover, server"
	labelTrust       = "roamgate join: trust, server"
	labelCertificate = "roamgate join: certificate, device"
	labelIssued      = "roamgate join: certificate, server"
)

// transcript of a conversation: fields, each behind its length in four octets,
// most significant first. A list is its length and then its elements. So two
// different conversations never have the same octets.
type transcript []byte

func (t transcript) number(n int) transcript { return binary.BigEndian.AppendUint32(t, uint32(n)) }

func (t transcript) octets(b []byte) transcript { return append(t.number(len(b)), b...) }

func (t transcript) text(s string) transcript { return append(t.number(len(s)), s...) }

func (t transcript) list(l [][]byte) transcript {
	t = t.number(len(l))
	for _, b := range l {
		t = t.octets(b)
	}
	return t
}

// hello is what both transcripts begin with.
func (t transcript) hello(binding []byte, h *Hello, id otp.ID) transcript {
	t = t.octets(binding).number(len(h.Versions))
	for _, v := range h.Versions {
		t = t.number(v)
	}
	return t.octets(id[:]).octets(h.Nonce)
}

// subkey of the key of a request. That is uniformly random already, so
// expanding it is enough (RFC 5869 section 3.3).
func subkey(key []byte, label string) []byte {
	k, err := hkdf.Expand(sha256.New, key, label, sha256.Size)
	if err != nil {
		panic(err) // only for a length that HKDF can't give
	}
	return k
}

// mac erases the subkey that it takes.
func (t transcript) mac(sub []byte) []byte {
	m := hmac.New(sha256.New, sub)
	clear(sub)
	m.Write(t)
	return m.Sum(nil)
}

func (t transcript) verify(sub, mac []byte) bool { return hmac.Equal(t.mac(sub), mac) }

// Conversation is what was said on one connection, from the TrustRequest on.
// Both sides make the same one, or their MACs differ. The zero value isn't
// usable.
type Conversation struct {
	t transcript
}

// Begin a conversation with what the device asked and the server answered.
func Begin(binding []byte, h *Hello, version int, nonce []byte, trust *Trust) *Conversation {
	t := transcript(nil).text("roamgate join").hello(binding, h, h.ID())
	t = t.number(version).octets(nonce)
	t = t.text(trust.Instance).text(trust.InstanceOID).text(trust.Server)
	return &Conversation{t.octets(trust.Root).list(trust.Chain)}
}

// TrustMAC is MAC 1, of the server, under the key of the request. This and the
// other methods keep no reference to a key.
func (c *Conversation) TrustMAC(key []byte) []byte { return c.t.mac(subkey(key, labelTrust)) }

// VerifyTrust of MAC 1, in constant time.
func (c *Conversation) VerifyTrust(key, mac []byte) bool {
	return c.t.verify(subkey(key, labelTrust), mac)
}

// Request adds the device's certificate request. What follows is under bound,
// the key of the request bound to the public key in it (otp.Bind).
func (c *Conversation) Request(csr []byte) { c.t = c.t.octets(csr) }

// RequestMAC is MAC 2, of the device, after Request.
func (c *Conversation) RequestMAC(bound []byte) []byte {
	return c.t.mac(subkey(bound, labelCertificate))
}

// VerifyRequest of MAC 2, in constant time.
func (c *Conversation) VerifyRequest(bound, mac []byte) bool {
	return c.t.verify(subkey(bound, labelCertificate), mac)
}

// Answer adds what the device gets.
func (c *Conversation) Answer(r *CertificateResponse) {
	c.t = c.t.octets(r.Certificate).list(r.Chain)
	c.t = binary.BigEndian.AppendUint64(c.t, uint64(r.RenewFrom))
	c.t = c.t.octets(r.Configuration)
}

// AnswerMAC is MAC 3, of the server, after Answer.
func (c *Conversation) AnswerMAC(bound []byte) []byte { return c.t.mac(subkey(bound, labelIssued)) }

// VerifyAnswer of MAC 3, in constant time.
func (c *Conversation) VerifyAnswer(bound, mac []byte) bool {
	return c.t.verify(subkey(bound, labelIssued), mac)
}

// Inquiry is a DiscoverRequest together with the connection by which it came:
// all that an instance needs to see whether it comes from a device that knows
// the password, also when another instance asks on the device's behalf.
type Inquiry struct {
	Binding []byte `json:"binding"`
	DiscoverRequest
}

// Check the bounds of each field.
func (q *Inquiry) Check() error {
	if err := exactly("binding", q.Binding, BindingSize); err != nil {
		return err
	}
	return q.DiscoverRequest.Check()
}

func (q *Inquiry) transcript() transcript {
	return transcript(nil).text("roamgate join discover").hello(q.Binding, &q.Hello, q.ID())
}

// Sign puts the device's MAC in.
func (q *Inquiry) Sign(key []byte) { q.MAC = q.transcript().mac(subkey(key, labelDiscover)) }

// Answer of a server by that name which has the key of the request, if the
// device has it, too.
func (q *Inquiry) Answer(key []byte, name string) (Server, bool) {
	t := q.transcript()
	genuine := t.verify(subkey(key, labelDiscover), q.MAC)
	s := Server{Name: name, MAC: t.octets(q.MAC).text(name).mac(subkey(key, labelFound))}
	if !genuine {
		return Server{}, false
	}
	return s, true
}

// Verify that a server knows the password and gave this name itself, in
// constant time.
func (q *Inquiry) Verify(key []byte, s Server) bool {
	return q.transcript().octets(q.MAC).text(s.Name).verify(subkey(key, labelFound), s.MAC)
}
