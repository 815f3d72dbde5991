package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
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
	// Server: serverAuth for TLS, names and addresses as alternative names.
	Server Profile = "server"
	// Peer is a server that is also a client of servers of other instances:
	// serverAuth and clientAuth, and the instance's policy of peers.
	Peer Profile = "peer"
	// Admin: clientAuth, and the instance's policy of administrators, whose
	// name is the common name.
	Admin Profile = "admin"
	// Manager pushes configuration to gateways: clientAuth, and the instance's
	// policy of managers, whose name is the common name.
	Manager Profile = "manager"
	// Agent is a gateway on its management port: serverAuth, its names and
	// addresses as alternative names, and the instance's policy of agents.
	Agent Profile = "agent"
	// RA is the registration authority of SCEP (RFC 8894 section 3.1.1.4): RSA,
	// signs and is encrypted to.
	RA Profile = "ra"
)

// Profiles in the order in which help shows them.
var Profiles = []Profile{Device, Gateway, Server, Peer, Admin, Manager, Agent, RA}

// Lifetimes of what is issued.
const (
	DeviceLifetime  = 90 * 24 * time.Hour
	GatewayLifetime = 397 * 24 * time.Hour
	AdminLifetime   = 90 * 24 * time.Hour
	// backdate allows for clocks that are behind ours.
	backdate = time.Hour
)

// Request for a certificate.
type Request struct {
	Profile   Profile
	PublicKey crypto.PublicKey
	// Name of a device, administrator, manager or RA: 1 to 64 of letters, digits, '.',
	// '_', '-' and '@', taken in lower case. Unused for the others.
	Name string
	// DNSNames and Addresses of a gateway, server, peer or agent, at least one
	// of them; the first name, or else the first address, is its common name.
	DNSNames  []string
	Addresses []netip.Addr
	// Lifetime; zero is that of the profile. No certificate outlives its
	// issuer.
	Lifetime time.Duration
}

// PolicyOID is the certificate policy that a profile carries, if any: that of
// devices is the instance OID itself, which gateways look for. The others lie
// below it, so that they are admitted by no gateway as devices, and a device is
// admitted by no administration and configures nothing.
func PolicyOID(instance x509.OID, p Profile) (x509.OID, bool) {
	arc := ""
	switch p {
	case Device:
		return instance, true
	case Peer:
		arc = ".1"
	case Admin:
		arc = ".2"
	case Manager:
		arc = ".3"
	case Agent:
		arc = ".4"
	default:
		return x509.OID{}, false
	}
	oid, err := x509.ParseOID(instance.String() + arc)
	return oid, err == nil
}

// Has says whether a certificate carries the policy of a profile. It does not
// say who issued it.
func Has(c *x509.Certificate, instance x509.OID, p Profile) bool {
	oid, ok := PolicyOID(instance, p)
	return ok && slices.ContainsFunc(c.Policies, oid.Equal)
}

var (
	ipsecIKE = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17} // RFC 4945 section 5.1.3.12
	cmcRA    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28} // RFC 6402 section 2.10
)

// CheckRequest says whether Issue would take a request, as far as that can be
// told without a CA.
func CheckRequest(r Request) error {
	_, _, err := prepare(r)
	return err
}

// prepare fills in what does not depend on the CA and the time.
func prepare(r Request) (*x509.Certificate, time.Duration, error) {
	if err := checkPublicKey(r.Profile, r.PublicKey); err != nil {
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
	}
	lifetime := GatewayLifetime
	switch r.Profile {
	case Device:
		lifetime = DeviceLifetime
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{ipsecIKE}
		// The answer to a SCEP renewal is encrypted to the certificate that
		// asked for it (RFC 8894 section 2.2).
		if _, ok := r.PublicKey.(*rsa.PublicKey); ok {
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
		}
		err = nameTemplate(c, r)
	case Gateway:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{ipsecIKE}
		err = hostTemplate(c, r)
	case Server, Agent:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		err = hostTemplate(c, r)
	case Peer:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		err = hostTemplate(c, r)
	case Admin, Manager:
		lifetime = AdminLifetime
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		err = nameTemplate(c, r)
	case RA:
		if _, ok := r.PublicKey.(*rsa.PublicKey); !ok {
			err = fmt.Errorf("%w: an RA needs an RSA key, got %T", ErrKey, r.PublicKey)
			break
		}
		c.KeyUsage |= x509.KeyUsageKeyEncipherment
		c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{cmcRA}
		err = nameTemplate(c, r)
	default:
		err = fmt.Errorf("%w: profile %q", ErrRequest, r.Profile)
	}
	if err != nil {
		return nil, 0, err
	}
	if r.Lifetime != 0 {
		lifetime = r.Lifetime
	}
	if lifetime < time.Minute {
		return nil, 0, fmt.Errorf("%w: lifetime %s is below a minute", ErrRequest, lifetime)
	}
	return c, lifetime, nil
}

func nameTemplate(c *x509.Certificate, r Request) error {
	name, err := DeviceName(r.Name)
	if err != nil {
		return err
	}
	c.Subject.CommonName = name
	if strings.Contains(name, "@") {
		c.EmailAddresses = []string{name}
	} else {
		c.DNSNames = []string{name}
	}
	return nil
}

func hostTemplate(c *x509.Certificate, r Request) error {
	if len(r.DNSNames)+len(r.Addresses) == 0 {
		return fmt.Errorf("%w: a %s needs a host name or an address", ErrRequest, r.Profile)
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
		c.Subject.CommonName = string(r.Profile)
	}
	return nil
}

// maxName is ub-common-name of RFC 5280 appendix A.1.
const maxName = 64

// DeviceName is the canonical form of a name, or an ErrRequest: what is issued
// here must be a name that a gateway admits.
func DeviceName(name string) (string, error) {
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
