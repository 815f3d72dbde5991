package profile

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// Kind of client that a profile is for.
type Kind string

const (
	StrongSwan Kind = "strongswan" // swanctl.conf with its folders
	SSwan      Kind = "sswan"      // profile file of the strongSwan app for Android
	Apple      Kind = "apple"      // signed .mobileconfig for iOS, iPadOS, macOS
	Windows    Kind = "windows"    // VPNv2 ProfileXML, PKCS#12 and an installer
	Android    Kind = "android"    // SSwan, and a managed configuration of the app
)

// Kinds in the order in which help shows them.
var Kinds = []Kind{StrongSwan, SSwan, Apple, Windows, Android}

// client is how one kind makes its files. check finds what would make build
// fail, before a certificate is issued; names are those of the files of build.
type client struct {
	check func(*Profile) error
	names func(*Profile) []string
	build func(*Profile, Options) (Bundle, error)
}

var clients = map[Kind]client{
	StrongSwan: {checkStrongSwan, namesStrongSwan, buildStrongSwan},
	SSwan:      {checkSSwan, namesSSwan, buildSSwan},
	Apple:      {checkApple, namesApple, buildApple},
	Windows:    {checkWindows, namesWindows, buildWindows},
	Android:    {checkSSwan, namesAndroid, buildAndroid},
}

// Connect says when a device connects.
type Connect string

const (
	Manual   Connect = "manual"    // when its user wants
	OnDemand Connect = "on-demand" // when something inside is asked for
	Always   Connect = "always"    // as soon as it has a network
)

// Connects are all values.
var Connects = []Connect{Manual, OnDemand, Always}

// DefaultTitle of a profile.
const DefaultTitle = "Roamgate"

// Gateway that a device dials.
type Gateway struct {
	// Address is a host name or an IP address.
	Address string
	// ID is the gateway's IKE identity (RFC 7296 section 3.5): a host name, an
	// e-mail address or an IP address. Empty means Address.
	ID string
}

// Proxy that a device uses while it is connected.
type Proxy struct {
	// Server is HOST:PORT, and PAC the URL of a configuration script; one of
	// them or none.
	Server, PAC string
	// Exceptions are names (also with a leading "*.") and addresses that are
	// reached without Server.
	Exceptions []string
}

// Profile of a device.
type Profile struct {
	// Device is its name, as in the certificate.
	Device string
	// Instance is the object identifier of the installation.
	Instance string
	// Title is what users see; empty means DefaultTitle.
	Title string
	// Gateways, the preferred one first.
	Gateways []Gateway
	// Roots that devices trust, and Intermediates below them.
	Roots, Intermediates []*x509.Certificate
	// GatewayIssuer is the common name of the CA that issued the gateway's
	// certificate; empty means the one that issued the device's.
	GatewayIssuer string
	// Certificate of the device and its Key; nil where the device has the key.
	Certificate *x509.Certificate
	Key         crypto.Signer
	// IKE and ESP are proposals in strongSwan's words, best first, such as
	// "aes256gcm16-prfsha384-ecp384" and "aes256gcm16".
	IKE, ESP []string
	// Networks behind the gateway; empty sends everything through the tunnel.
	Networks []netip.Prefix
	// DNS servers behind the gateway, and the Domains that they know.
	DNS     []netip.Addr
	Domains []string
	Proxy   Proxy
	// Connect is Manual if empty.
	Connect Connect
	// TrustedNetworks are DNS suffixes of networks that need no tunnel.
	TrustedNetworks []string
	// DeviceTunnel connects before anyone logs in (Windows Enterprise and
	// Education in a domain).
	DeviceTunnel bool
	// MTU of the tunnel in octets; 0 leaves it to the client.
	MTU int
}

// Options of Build.
type Options struct {
	// Password of the PKCS#12 container.
	Password string
	// Rand is the source of salts and initialization vectors.
	Rand io.Reader
	// Signer of .mobileconfig files; nil leaves them unsigned.
	Signer *Signer
}

// File of a bundle.
type File struct {
	// Name is relative, with slashes.
	Name string
	// Mode is 0600 for what holds a key, even an encrypted one.
	Mode fs.FileMode
	Data []byte
}

// Bundle is all that a device needs but the password.
type Bundle struct {
	Files []File
	// Notes say what the client can't take and what its user has to do, a
	// sentence each.
	Notes []string
}

func (b *Bundle) note(format string, args ...any) {
	b.Notes = append(b.Notes, fmt.Sprintf(format, args...))
}

// Check finds what Build would refuse, before there is a certificate: only
// Certificate, Roots and Intermediates may be missing.
func Check(kind Kind, p Profile) error {
	c, ok := clients[kind]
	if !ok {
		return fmt.Errorf("%w: %q is none of %v", ErrKind, kind, Kinds)
	}
	if err := p.normalize(); err != nil {
		return err
	}
	return c.check(&p)
}

// Names are those of the files that Build makes, for a profile that Check
// accepts.
func Names(kind Kind, p Profile) []string {
	return clients[kind].names(&p)
}

// Build makes the files for one kind of client.
func Build(kind Kind, p Profile, o Options) (Bundle, error) {
	if err := Check(kind, p); err != nil {
		return Bundle{}, err
	}
	if p.Certificate == nil || len(p.Roots) == 0 {
		return Bundle{}, fmt.Errorf("%w: no certificate of the device, or no root", ErrProfile)
	}
	if err := p.normalize(); err != nil {
		return Bundle{}, err
	}
	if p.GatewayIssuer == "" {
		p.GatewayIssuer = p.Certificate.Issuer.CommonName
	}
	return clients[kind].build(&p, o)
}

// HasPassword says whether files of this kind hold a PKCS#12 container, and
// thus need Options.Password.
func HasPassword(kind Kind, p Profile) bool {
	return kind != StrongSwan && p.Key != nil
}

// full: everything goes through the tunnel.
func (p *Profile) full() bool { return len(p.Networks) == 0 }

// id of a gateway.
func (g Gateway) id() string {
	if g.ID != "" {
		return g.ID
	}
	return g.Address
}

// numbered is a name for the i-th of several.
func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}

// titleOf the connection to the i-th gateway.
func (p *Profile) titleOf(i int) string {
	if len(p.Gateways) == 1 {
		return p.Title
	}
	return p.Title + " (" + p.Gateways[i].Address + ")"
}

// authorities are the intermediates, then the roots.
func (p *Profile) authorities() []*x509.Certificate {
	return slices.Concat(p.Intermediates, p.Roots)
}

func (p *Profile) noteProxy(b *Bundle, who string) {
	if p.Proxy.Server != "" || p.Proxy.PAC != "" {
		b.note("%s sets no proxy: give it to the device another way", who)
	}
}

func (p *Profile) noteDomains(b *Bundle, who string) {
	if len(p.Domains) > 0 {
		b.note("%s has no rules for domains: all names are asked at the gateway's DNS servers", who)
	}
}

func (p *Profile) noteTrusted(b *Bundle, who string) {
	if len(p.TrustedNetworks) > 0 {
		b.note("%s knows no trusted networks: it connects there too", who)
	}
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

func joined[T fmt.Stringer](list []T, separator string) string {
	return strings.Join(texts(list), separator)
}
