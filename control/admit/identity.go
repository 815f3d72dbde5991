package admit

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Identification types of RFC 7296 section 3.5 that can be found in a
// certificate (RFC 4945 section 3.1).
const (
	idIPv4Addr   = 1
	idFQDN       = 2
	idRFC822Addr = 3
	idIPv6Addr   = 5
	idDERASN1DN  = 9
)

// maxDeviceName is ub-common-name of RFC 5280 appendix A.1.
const maxDeviceName = 64

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// DeviceName is the canonical form of a device's name: 1 to 64 of the letters
// a-z, digits, '.', '_', '-' and '@', beginning with a letter or digit. It can
// be a log field, a file name and a database key as it is. Upper case becomes
// lower case, so that no second spelling gets around a bar or into another
// device's lease; everything else is an ErrDeviceName.
func DeviceName(name string) (string, error) {
	if name == "" || len(name) > maxDeviceName {
		return "", fmt.Errorf("%w: %d bytes, want 1..%d", ErrDeviceName, len(name), maxDeviceName)
	}
	canonical := []byte(name)
	for i, b := range canonical {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9':
		case 'A' <= b && b <= 'Z':
			canonical[i] = b + ('a' - 'A')
		case i > 0 && strings.IndexByte("._-@", b) >= 0:
		default:
			return "", fmt.Errorf("%w: %q: byte %d is not allowed", ErrDeviceName, name, i+1)
		}
	}
	return string(canonical), nil
}

// deviceOf is the name of the device at the end of a path. Two common names
// would leave it to the reader which one counts, and name constraints do not
// reach the common name: below a CA that has any, it must be a subject
// alternative name too.
func deviceOf(path []*x509.Certificate) (string, *Refusal) {
	leaf := path[0]
	var names []string
	for _, attribute := range leaf.Subject.Names {
		if attribute.Type.Equal(oidCommonName) {
			value, _ := attribute.Value.(string)
			names = append(names, value)
		}
	}
	if len(names) != 1 {
		return "", refuse(ReasonDeviceName, "subject has %d common names, want one", len(names))
	}
	device, err := DeviceName(names[0])
	if err != nil {
		return "", refuse(ReasonDeviceName, "common name: %v", err)
	}
	if slices.ContainsFunc(path[1:], hasNameConstraints) {
		idType := uint8(idFQDN)
		if strings.Contains(device, "@") {
			idType = idRFC822Addr
		}
		if matchIdentity(idType, []byte(names[0]), leaf) != nil {
			return "", refuse(ReasonDeviceName, "issuer has name constraints, but %s is no subject alternative name", device)
		}
	}
	return device, nil
}

func hasNameConstraints(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+
		len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// matchIdentity wants IDi among the names of the certificate. ID_KEY_ID,
// ID_DER_ASN1_GN and ID_NULL are refused: no certificate vouches for them.
func matchIdentity(idType uint8, id []byte, leaf *x509.Certificate) *Refusal {
	var match bool
	switch idType {
	case idFQDN:
		match = slices.ContainsFunc(leaf.DNSNames, func(name string) bool {
			return equalFold(name, string(id))
		})
	case idRFC822Addr:
		match = slices.ContainsFunc(leaf.EmailAddresses, func(name string) bool {
			return equalMailbox(name, string(id))
		})
	case idIPv4Addr:
		match = len(id) == net.IPv4len && hasAddress(leaf, id)
	case idIPv6Addr:
		match = len(id) == net.IPv6len && hasAddress(leaf, id)
	case idDERASN1DN:
		match = equalName(leaf.RawSubject, id)
	default:
		return refuse(ReasonIdentityType, "identification type %d", idType)
	}
	if !match {
		return refuse(ReasonIdentityMismatch, "identification type %d, %q is not a name of %q", idType, id[:min(len(id), 64)], leaf.Subject)
	}
	return nil
}

// equalFold compares without case, ASCII only: strings.EqualFold would take
// the Kelvin sign for a k.
func equalFold(a, b string) bool {
	if len(a) != len(b) || a == "" {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

// equalMailbox: the case of the host does not matter, that of the local part
// does (RFC 5280 section 7.5).
func equalMailbox(a, b string) bool {
	at := strings.LastIndexByte(a, '@')
	return at > 0 && at == strings.LastIndexByte(b, '@') && a[:at] == b[:at] && equalFold(a[at:], b[at:])
}

func hasAddress(leaf *x509.Certificate, id []byte) bool {
	return slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool {
		return bytes.Equal(ip, id)
	})
}

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// relativeName is named for encoding/asn1: a type ending in SET is a SET OF.
type relativeNameSET []attribute

// equalName compares two distinguished names. Most peers copy the subject;
// those that encode it anew may pick another string type for the same text
// (RFC 5280 section 7.1), so the types of ASCII-compatible strings are not
// compared. Case, spaces and order are.
func equalName(subject, id []byte) bool {
	if bytes.Equal(subject, id) {
		return true
	}
	if len(id) > 2*len(subject) {
		return false
	}
	var a, b []relativeNameSET
	if rest, err := asn1.Unmarshal(subject, &a); err != nil || len(rest) > 0 {
		return false
	}
	if rest, err := asn1.Unmarshal(id, &b); err != nil || len(rest) > 0 {
		return false
	}
	return len(a) > 0 && slices.EqualFunc(a, b, func(x, y relativeNameSET) bool {
		return slices.EqualFunc(x, y, equalAttribute)
	})
}

func equalAttribute(x, y attribute) bool {
	if !x.Type.Equal(y.Type) {
		return false
	}
	if bytes.Equal(x.Value.FullBytes, y.Value.FullBytes) {
		return true
	}
	return isText(x.Value) && isText(y.Value) && bytes.Equal(x.Value.Bytes, y.Value.Bytes)
}

// isText: the bytes of these strings mean the same in each type as long as
// they are ASCII.
func isText(v asn1.RawValue) bool {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String:
		return !slices.ContainsFunc(v.Bytes, func(b byte) bool { return b >= 0x80 })
	}
	return false
}
