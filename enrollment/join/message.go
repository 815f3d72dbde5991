package join

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// Paths of the messages, all by POST.
const (
	DiscoverPath    = "/join/discover"
	TrustPath       = "/join/trust"
	CertificatePath = "/join/certificate"
)

// Version1 is the only version so far.
const Version1 = 1

// Versions that this code speaks, best first.
var Versions = []int{Version1}

// Sizes in octets, of what is decoded from base64 where it is that.
const (
	// MACSize of an HMAC-SHA-256.
	MACSize = 32
	// NonceSize of both sides.
	NonceSize = 32
	// MaxRequest is the largest message of a device, MaxResponse the largest
	// answer.
	MaxRequest  = 32 << 10
	MaxResponse = 512 << 10

	maxVersions      = 16
	maxVersion       = 255
	maxRequestID     = 32
	maxCSR           = pkcs10.MaxSize
	maxCertificate   = 16 << 10
	maxChain         = 8
	maxConfiguration = 64 << 10
	maxName          = 255
	maxServers       = 64
)

// Hello is what each message of a device begins with. []byte is base64
// (RFC 4648 section 4) in JSON.
type Hello struct {
	// Versions that the device speaks, 1 to 255.
	Versions []int `json:"versions" nullable:"false" minItems:"1" maxItems:"16" doc:"Versions that the device speaks"`
	// Request is its ID as people write it.
	Request string `json:"request" maxLength:"32" example:"XK7M-29QA" doc:"ID of the enrollment request"`
	// Nonce of the device, NonceSize random octets.
	Nonce []byte `json:"nonce" doc:"32 random octets of the device"`
}

// DiscoverRequest asks which servers know a request.
type DiscoverRequest struct {
	Hello
	MAC []byte `json:"mac" doc:"Shows that the device knows the password"`
}

// DiscoverResponse is given only to who knows the password.
type DiscoverResponse struct {
	// Servers have at least one entry.
	Servers []Server `json:"servers" nullable:"false" minItems:"1" maxItems:"64" doc:"Servers that know the request"`
}

// Server that knows a request.
type Server struct {
	// Name is a host name with or without a port; 443 without.
	Name string `json:"name" maxLength:"255" example:"mobileenroll02.example.com" doc:"HOST or HOST:PORT"`
	// MAC of that server, which knows the password.
	MAC []byte `json:"mac" doc:"Shows that this server knows the password"`
}

// TrustRequest asks for the root to trust.
type TrustRequest struct {
	Hello
}

// Trust is what a server says of itself.
type Trust struct {
	// Instance is the installation's name for people, InstanceOID its object
	// identifier, which device certificates carry.
	Instance    string `json:"instance" maxLength:"255" example:"Example Ltd" doc:"Name of the installation"`
	InstanceOID string `json:"instance_oid" maxLength:"255" example:"2.25.329800735698586629295641978511506172918" doc:"Object identifier that device certificates carry as policy"`
	// Server is the name under which it is published, as in Server.Name.
	Server string `json:"server" maxLength:"255" example:"mobileenroll.example.com" doc:"Name under which this server is published"`
	// Root certificate in DER, and the Chain from the issuing CA to the root,
	// both included.
	Root  []byte   `json:"root" doc:"Root certificate, DER"`
	Chain [][]byte `json:"chain" nullable:"false" minItems:"1" maxItems:"8" doc:"From the issuing CA to the root, both included; DER"`
}

// TrustResponse is the answer to TrustRequest.
type TrustResponse struct {
	Version int    `json:"version" doc:"Version that both speak from here on"`
	Nonce   []byte `json:"nonce" doc:"32 octets of the server"`
	Trust
	MAC []byte `json:"mac" doc:"Shows that the server knows the password and said all this"`
}

// CertificateRequest goes over the connection of the TrustResponse.
type CertificateRequest struct {
	// Hello is that of the TrustRequest.
	Hello
	// CSR is a PKCS#10 request (RFC 2986) in DER. Only its key and signature
	// are looked at.
	CSR []byte `json:"csr" doc:"PKCS#10 request, DER; its subject is not looked at"`
	MAC []byte `json:"mac" doc:"Shows that the device knows the password and has verified the trust root"`
}

// CertificateResponse is the answer to CertificateRequest.
type CertificateResponse struct {
	// Certificate of the device in DER, and the Chain from its issuer to the
	// root, both included.
	Certificate []byte   `json:"certificate" doc:"Certificate of the device, DER"`
	Chain       [][]byte `json:"chain" nullable:"false" minItems:"1" maxItems:"8" doc:"From the issuing CA to the root, both included; DER"`
	// RenewFrom is when the device should ask for its next certificate, in
	// seconds since 1970 UTC.
	RenewFrom int64 `json:"renew_from" doc:"When to ask for the next certificate, seconds since 1970 UTC"`
	// Configuration is a JSON document, as octets so that the MAC covers each
	// of them.
	Configuration []byte `json:"configuration" doc:"What the device needs to connect: a JSON document"`
	MAC           []byte `json:"mac" doc:"Shows that the server knows the password and said all this"`
}

// Renew is RenewFrom as a time.
func (r *CertificateResponse) Renew() time.Time { return time.Unix(r.RenewFrom, 0).UTC() }

// Message is checked after it was decoded.
type Message interface {
	// Check the bounds of each field.
	Check() error
}

// Decode reads a message strictly: one JSON value, no unknown field, nothing
// behind it, each field within its bounds. It reads at most limit octets.
func Decode(r io.Reader, limit int64, m Message) error {
	limited := &io.LimitedReader{R: r, N: limit + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	err := d.Decode(m)
	if err == nil {
		_, err = d.Token()
		if err == nil {
			err = fmt.Errorf("%w: more than one value", ErrMessage)
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	switch {
	case limited.N <= 0:
		return fmt.Errorf("%w: more than %d octets", ErrMessage, limit)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return m.Check()
}

// DecodeBytes is Decode of what is in memory.
func DecodeBytes(b []byte, m Message) error {
	return Decode(bytes.NewReader(b), int64(len(b)), m)
}

func malformed(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrMessage, field, fmt.Sprintf(format, args...))
}

func exactly(field string, b []byte, size int) error {
	if len(b) != size {
		return malformed(field, "%d octets, want %d", len(b), size)
	}
	return nil
}

func within(field string, size, most int) error {
	if size < 1 || size > most {
		return malformed(field, "size %d, want 1 to %d", size, most)
	}
	return nil
}

func checkChain(chain [][]byte) error {
	if err := within("chain", len(chain), maxChain); err != nil {
		return err
	}
	for _, c := range chain {
		if err := within("chain", len(c), maxCertificate); err != nil {
			return err
		}
	}
	return nil
}

// Check the bounds of each field.
func (h *Hello) Check() error {
	if err := within("versions", len(h.Versions), maxVersions); err != nil {
		return err
	}
	for _, v := range h.Versions {
		if v < 1 || v > maxVersion {
			return malformed("versions", "%d", v)
		}
	}
	if len(h.Request) > maxRequestID {
		return malformed("request", "%d characters", len(h.Request))
	}
	if _, err := otp.ParseID(h.Request); err != nil {
		return malformed("request", "no request ID")
	}
	return exactly("nonce", h.Nonce, NonceSize)
}

// ID of the request. It may be called on a message that was decoded only.
func (h *Hello) ID() otp.ID {
	id, err := otp.ParseID(h.Request)
	if err != nil {
		return otp.ID{}
	}
	return id
}

// Choose the best version in common.
func (h *Hello) Choose() (int, error) {
	for _, v := range Versions {
		if slices.Contains(h.Versions, v) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%w: it speaks %v, we speak %v", ErrVersion, h.Versions, Versions)
}

// Check the bounds of each field.
func (r *DiscoverRequest) Check() error {
	if err := r.Hello.Check(); err != nil {
		return err
	}
	return exactly("mac", r.MAC, MACSize)
}

// Check the bounds of each field.
func (r *DiscoverResponse) Check() error {
	if err := within("servers", len(r.Servers), maxServers); err != nil {
		return err
	}
	for i := range r.Servers {
		if err := r.Servers[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check the bounds of each field.
func (s *Server) Check() error {
	if err := within("name", len(s.Name), maxName); err != nil {
		return err
	}
	return exactly("mac", s.MAC, MACSize)
}

// Check the bounds of each field.
func (r *TrustRequest) Check() error { return r.Hello.Check() }

// Check the bounds of each field.
func (t *Trust) Check() error {
	for field, s := range map[string]string{"instance": t.Instance, "instance_oid": t.InstanceOID, "server": t.Server} {
		if err := within(field, len(s), maxName); err != nil {
			return err
		}
	}
	if err := within("root", len(t.Root), maxCertificate); err != nil {
		return err
	}
	return checkChain(t.Chain)
}

// Check the bounds of each field.
func (r *TrustResponse) Check() error {
	if err := exactly("nonce", r.Nonce, NonceSize); err != nil {
		return err
	}
	if err := r.Trust.Check(); err != nil {
		return err
	}
	return exactly("mac", r.MAC, MACSize)
}

// Check the bounds of each field.
func (r *CertificateRequest) Check() error {
	if err := r.Hello.Check(); err != nil {
		return err
	}
	if err := within("csr", len(r.CSR), maxCSR); err != nil {
		return err
	}
	return exactly("mac", r.MAC, MACSize)
}

// Check the bounds of each field.
func (r *CertificateResponse) Check() error {
	if err := within("certificate", len(r.Certificate), maxCertificate); err != nil {
		return err
	}
	if err := checkChain(r.Chain); err != nil {
		return err
	}
	if err := within("configuration", len(r.Configuration), maxConfiguration); err != nil {
		return err
	}
	return exactly("mac", r.MAC, MACSize)
}
