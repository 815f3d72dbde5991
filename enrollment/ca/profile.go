package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Profile says what a certificate is for.
type Profile string

const (
	// Device: clientAuth and ipsecIKE, the instance OID as certificate policy,
	// the device's name as common name and as alternative name.
	Device Profile = "device"
	// Gateway: serverAuth and ipsecIKE, its names and addresses as alternative
	// names, no instance OID: a gateway is no device.
	Gateway Profile = "gateway"
)

// Lifetimes of what is issued.
const (
	DeviceLifetime  = 90 * 24 * time.Hour
	GatewayLifetime = 397 * 24 * time.Hour
	// backdate allows for clocks that are behind ours.
	backdate = time.Hour
)

// Request for a certificate.
type Request struct {
	Profile   Profile
	PublicKey crypto.PublicKey
	// Name of a device: 1 to 64 of letters, digits, '.', '_', '-' and '@',
	// taken in lower case. Unused for a gateway.
	Name string
	// DNSNames and Addresses of a gateway, at least one of them; the first
	// name, or else the first address, is its common name.
	DNSNames  []string
	Addresses []netip.Addr
	// Lifetime; zero is that of the profile. No certificate outlives its
	// issuer.
	Lifetime time.Duration
}

var ipsecIKE = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17} // RFC 4945 section 5.1.3.12

// CheckRequest says whether Issue would take a request, as far as that can be
// told without a CA.
func CheckRequest(r Request) error {
	_, _, err := prepare(r)
	return err
}

// template turns a request into a certificate to be signed.
func (a *CA) template(now time.Time, r Request) (*x509.Certificate, error) {
	c, lifetime, err := prepare(r)
	if err != nil {
		return nil, err
	}
	if r.Profile == Device {
		c.Policies = []x509.OID{a.instance}
	}
	c.NotBefore, c.NotAfter = now.Add(-backdate), now.Add(lifetime)
	if c.NotBefore.Before(a.issuing.NotBefore) {
		c.NotBefore = a.issuing.NotBefore
	}
	if c.NotAfter.After(a.issuing.NotAfter) {
		c.NotAfter = a.issuing.NotAfter
	}
	if !c.NotAfter.After(now) {
		return nil, fmt.Errorf("%w: the issuing certificate ended at %s", ErrRequest, a.issuing.NotAfter.Format(time.RFC3339))
	}
	return c, nil
}

// prepare fills in what does not depend on the CA and the time.
func prepare(r Request) (*x509.Certificate, time.Duration, error) {
	if err := checkPublicKey(r.PublicKey); err != nil {
		return nil, 0, err
	}
	keyID, err := subjectKeyID(r.PublicKey)
	if err != nil {
		return nil, 0, err
	}
	c := &x509.Certificate{
		SerialNumber:          newSerial(),
		SubjectKeyId:          keyID,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{ipsecIKE},
	}
	lifetime := r.Lifetime
	switch r.Profile {
	case Device:
		err = deviceTemplate(c, r)
		if lifetime == 0 {
			lifetime = DeviceLifetime
		}
	case Gateway:
		err = gatewayTemplate(c, r)
		if lifetime == 0 {
			lifetime = GatewayLifetime
		}
	default:
		err = fmt.Errorf("%w: profile %q", ErrRequest, r.Profile)
	}
	if err != nil {
		return nil, 0, err
	}
	if lifetime < time.Minute {
		return nil, 0, fmt.Errorf("%w: lifetime %s is below a minute", ErrRequest, lifetime)
	}
	return c, lifetime, nil
}

func deviceTemplate(c *x509.Certificate, r Request) error {
	name, err := deviceName(r.Name)
	if err != nil {
		return err
	}
	c.Subject.CommonName = name
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if strings.Contains(name, "@") {
		c.EmailAddresses = []string{name}
	} else {
		c.DNSNames = []string{name}
	}
	return nil
}

func gatewayTemplate(c *x509.Certificate, r Request) error {
	if len(r.DNSNames)+len(r.Addresses) == 0 {
		return fmt.Errorf("%w: a gateway needs a name or an address", ErrRequest)
	}
	for _, name := range r.DNSNames {
		if err := checkHost(name); err != nil {
			return err
		}
		c.DNSNames = append(c.DNSNames, strings.ToLower(name))
	}
	for _, address := range r.Addresses {
		if !address.IsValid() || address.Zone() != "" {
			return fmt.Errorf("%w: address %q", ErrRequest, address)
		}
		address = address.Unmap()
		c.IPAddresses = append(c.IPAddresses, net.IP(address.AsSlice()))
		// Windows compares what the user typed with names only, an address too.
		c.DNSNames = append(c.DNSNames, address.String())
	}
	if common := c.DNSNames[0]; len(common) <= maxName {
		c.Subject.CommonName = common
	} else {
		// The common name has 64 characters at most; the alternative names
		// are what counts.
		c.Subject.CommonName = "gateway"
	}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return nil
}

// maxName is ub-common-name of RFC 5280 appendix A.1.
const maxName = 64

// deviceName is the canonical form: what is issued here must be a name that a
// gateway admits.
func deviceName(name string) (string, error) {
	name = strings.ToLower(name)
	host := name
	if local, domain, ok := strings.Cut(name, "@"); ok {
		host = domain
		if !validLabels(local) {
			return "", fmt.Errorf("%w: device name %q", ErrRequest, name)
		}
	}
	if len(name) > maxName || !validLabels(host) || !alphanumeric(name[0]) {
		return "", fmt.Errorf("%w: device name %q: want 1 to %d of a-z, 0-9, '.', '_', '-', one '@'", ErrRequest, name, maxName)
	}
	return name, nil
}

func checkHost(name string) error {
	if len(name) > 253 || !validLabels(strings.ToLower(name)) {
		return fmt.Errorf("%w: host name %q", ErrRequest, name)
	}
	return nil
}

// validLabels: one or more labels of 1 to 63 characters, separated by dots.
func validLabels(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if b := label[i]; !alphanumeric(b) && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}

func alphanumeric(b byte) bool {
	return 'a' <= b && b <= 'z' || '0' <= b && b <= '9'
}

// newSerial has 126 random bits, is positive and always of 16 bytes (RFC 5280
// section 4.1.2.2 asks for at most 20).
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// NewInstanceOID makes an OID for an installation without asking anyone: a
// random UUID (version 4) below 2.25 (Rec. ITU-T X.667).
func NewInstanceOID() x509.OID {
	var uuid [16]byte
	rand.Read(uuid[:])
	uuid[6] = uuid[6]&0x0f | 0x40
	uuid[8] = uuid[8]&0x3f | 0x80
	oid, err := x509.ParseOID("2.25." + new(big.Int).SetBytes(uuid[:]).String())
	if err != nil {
		panic(err) // digits and dots only
	}
	return oid
}

func subjectPublicKey(spki []byte) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, err
	}
	return slices.Clone(info.Key.Bytes), nil
}
