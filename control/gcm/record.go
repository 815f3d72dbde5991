package gcm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// First octets of keys in the sections that have records of several kinds.
const (
	kindDevice     = 'd'
	kindRevocation = 'r'
	kindPool       = 'p'
	kindExclude    = 'x'
	kindTicketKey  = 'k'
	kindRoot       = 'a'
	kindBelow      = 'i'
)

// MaxAddresses that one device may be assigned.
const MaxAddresses = 8

// Authorisation of a device to connect.
type Authorisation struct {
	// Device is its name: admit.DeviceName's form.
	Device string
	// Group it is in; may be empty.
	Group string
	// Barred: it is known, and kept out.
	Barred bool
	// Addresses assigned to it, the same at each gateway; none: the gateway
	// picks from its pools.
	Addresses []netip.Addr
}

// Revocation of a certificate.
type Revocation struct {
	// Issuer is the SHA-256 of the SubjectPublicKeyInfo of the CA, in DER.
	Issuer [32]byte
	// Serial number, big-endian without leading zeros, 1 to 20 octets.
	Serial string
	// Reason is the CRLReason (RFC 5280 section 5.3.1).
	Reason uint8
	// At second precision.
	At time.Time
}

// AccessGroup is what the devices of a group may reach.
type AccessGroup struct {
	Name string
	// Rules in the text form of package acl, one a line, in their order. None:
	// nothing is restricted, unless Closed.
	Rules []string
	// Closed: without rules nothing is reached, rather than everything.
	Closed bool
	// DeviceRate and GroupRate in octets a second, 0 for none.
	DeviceRate, GroupRate uint64
}

// Pool of virtual addresses.
type Pool struct {
	Prefix netip.Prefix
	// Gateway that gives addresses out of it, by its name; all others know it
	// as a neighbour's.
	Gateway string
}

// TicketKey of session resumption. Whoever has it opens tickets: it is erased
// by who decoded it.
type TicketKey struct {
	ID     [8]byte
	Secret [32]byte
	// From is when it begins to seal, at second precision; it does until the
	// next one begins.
	From time.Time
}

// Setting is one value by its name in the configuration, such as
// "ike.proposals", as JSON text.
type Setting struct {
	Name, Value string
}

// Authority is the certificate of a CA whose devices get in.
type Authority struct {
	// Root: it is a trust anchor. Otherwise it helps to build a path to one.
	Root bool
	// DER is the X.509 certificate. Nothing here looks into it.
	DER []byte
}

// Record of an authorisation.
func (a Authorisation) Record() Record {
	var flags byte
	if a.Barred {
		flags = 1
	}
	v := []byte{flags, byte(len(a.Group))}
	v = append(v, a.Group...)
	for _, addr := range a.Addresses {
		octets := addr.Unmap().AsSlice()
		v = append(append(v, byte(len(octets))), octets...)
	}
	return Record{DeviceKey(a.Device), v}
}

// DeviceKey is the key of a device's authorisation.
func DeviceKey(device string) []byte { return append([]byte{kindDevice}, device...) }

// Record of a revocation.
func (r Revocation) Record() Record {
	return Record{RevocationKey(r.Issuer, r.Serial), binary.BigEndian.AppendUint64([]byte{r.Reason}, uint64(r.At.Unix()))}
}

// RevocationKey is the key of a certificate's revocation, see Revocation.
func RevocationKey(issuer [32]byte, serial string) []byte {
	return append(append([]byte{kindRevocation}, issuer[:]...), serial...)
}

// DeviceOf is the device whose authorisation is under a key, if one is.
func DeviceOf(key []byte) (device string, ok bool) {
	if len(key) < 2 || key[0] != kindDevice {
		return "", false
	}
	return string(key[1:]), true
}

// RevokedOf is the certificate whose revocation is under a key, if one is.
func RevokedOf(key []byte) (issuer [32]byte, serial string, ok bool) {
	if len(key) < 1+32+1 || key[0] != kindRevocation {
		return issuer, "", false
	}
	return [32]byte(key[1:33]), string(key[33:]), true
}

// Record of a group.
func (g AccessGroup) Record() Record {
	var flags byte
	if g.Closed {
		flags = 1
	}
	v := binary.BigEndian.AppendUint64([]byte{flags}, g.DeviceRate)
	v = binary.BigEndian.AppendUint64(v, g.GroupRate)
	return Record{[]byte(g.Name), append(v, strings.Join(g.Rules, "\n")...)}
}

// Record of a pool.
func (p Pool) Record() Record {
	return Record{append([]byte{kindPool}, prefixKey(p.Prefix)...), []byte(p.Gateway)}
}

// ExcludeRecord of an address that nobody gets.
func ExcludeRecord(addr netip.Addr) Record {
	return Record{append([]byte{kindExclude}, addr.Unmap().AsSlice()...), nil}
}

// Record of a key, with a copy of its secret.
func (k TicketKey) Record() Record {
	v := binary.BigEndian.AppendUint64(nil, uint64(k.From.Unix()))
	return Record{append([]byte{kindTicketKey}, k.ID[:]...), append(v, k.Secret[:]...)}
}

// Record of a setting.
func (s Setting) Record() Record { return Record{[]byte(s.Name), []byte(s.Value)} }

// Record of a CA's certificate, under the SHA-256 of it.
func (a Authority) Record() Record {
	kind, digest := byte(kindBelow), sha256.Sum256(a.DER)
	if a.Root {
		kind = kindRoot
	}
	return Record{append([]byte{kind}, digest[:]...), a.DER}
}

// Decode is the typed form of a record: an Authorisation, Revocation,
// AccessGroup, Pool, netip.Addr (one that is excluded), TicketKey, Setting or
// Authority.
// Error: ErrRecord or ErrTooLarge.
func Decode(section Section, r Record) (any, error) {
	_, key, value, ok := section.limits()
	if !ok {
		return nil, fmt.Errorf("%w: no section %q", ErrRecord, section)
	}
	if len(r.Key) > key || len(r.Value) > value {
		return nil, fmt.Errorf("%w: %s: a record of %d and %d octets", ErrTooLarge, section, len(r.Key), len(r.Value))
	}
	if len(r.Key) == 0 {
		return nil, invalid(section, r, "no key")
	}
	typed, err := decode(section, r)
	if err != nil {
		return nil, err
	}
	return typed, nil
}

func decode(section Section, r Record) (any, error) {
	switch section {
	case Access:
		return decodeGroup(r)
	case Settings:
		if !isName(string(r.Key)) || !utf8.Valid(r.Value) {
			return nil, invalid(section, r, "a setting has a name and UTF-8 text")
		}
		return Setting{string(r.Key), string(r.Value)}, nil
	case Devices:
		switch r.Key[0] {
		case kindDevice:
			return decodeAuthorisation(r)
		case kindRevocation:
			return decodeRevocation(r)
		}
	case Addresses:
		switch r.Key[0] {
		case kindPool:
			return decodePool(r)
		case kindExclude:
			a, ok := netip.AddrFromSlice(r.Key[1:])
			if !ok || a.Is4In6() || len(r.Value) != 0 {
				return nil, invalid(section, r, "not an address")
			}
			return a, nil
		}
	case Tickets:
		if r.Key[0] == kindTicketKey {
			return decodeTicketKey(r)
		}
	case Trust:
		if r.Key[0] == kindRoot || r.Key[0] == kindBelow {
			return decodeAuthority(r)
		}
	}
	return nil, invalid(section, r, "unknown kind")
}

func checkRecord(section Section, r Record) error {
	typed, err := Decode(section, r)
	if k, ok := typed.(TicketKey); ok {
		clear(k.Secret[:])
	}
	return err
}

func invalid(section Section, r Record, why string) error {
	key := r.Key
	if len(key) > 64 {
		key = key[:64]
	}
	return fmt.Errorf("%w: %s %q: %s", ErrRecord, section, key, why)
}

func decodeAuthorisation(r Record) (Authorisation, error) {
	a := Authorisation{Device: string(r.Key[1:])}
	v := r.Value
	if !isName(a.Device) || len(a.Device) > 64 || len(v) < 2 || v[0] > 1 || len(v) < 2+int(v[1]) {
		return Authorisation{}, invalid(Devices, r, "not an authorisation")
	}
	a.Barred = v[0] == 1
	a.Group = string(v[2 : 2+int(v[1])])
	if a.Group != "" && !isName(a.Group) {
		return Authorisation{}, invalid(Devices, r, "not the name of a group")
	}
	for v = v[2+int(v[1]):]; len(v) > 0; {
		n := int(v[0])
		if len(v) < 1+n {
			return Authorisation{}, invalid(Devices, r, "half an address")
		}
		addr, ok := netip.AddrFromSlice(v[1 : 1+n])
		if !ok || addr.Is4In6() || slices.Contains(a.Addresses, addr) || len(a.Addresses) == MaxAddresses {
			return Authorisation{}, invalid(Devices, r, "not an address, one that comes twice, or too many")
		}
		a.Addresses = append(a.Addresses, addr)
		v = v[1+n:]
	}
	return a, nil
}

func decodeRevocation(r Record) (Revocation, error) {
	k := r.Key[1:]
	if len(k) < 33 || len(k) > 32+20 || k[32] == 0 || len(r.Value) != 9 {
		return Revocation{}, invalid(Devices, r, "not a revocation")
	}
	at, ok := seconds(r.Value[1:])
	if !ok {
		return Revocation{}, invalid(Devices, r, "not a time")
	}
	return Revocation{Issuer: [32]byte(k), Serial: string(k[32:]), Reason: r.Value[0], At: at}, nil
}

func decodeGroup(r Record) (AccessGroup, error) {
	v := r.Value
	if !isName(string(r.Key)) || len(v) < 17 || v[0] > 1 || !utf8.Valid(v[17:]) {
		return AccessGroup{}, invalid(Access, r, "not a group")
	}
	g := AccessGroup{
		Name: string(r.Key), Closed: v[0] == 1,
		DeviceRate: binary.BigEndian.Uint64(v[1:]), GroupRate: binary.BigEndian.Uint64(v[9:]),
	}
	if len(v) > 17 {
		g.Rules = strings.Split(string(v[17:]), "\n")
	}
	return g, nil
}

func decodePool(r Record) (Pool, error) {
	k := r.Key[1:]
	if len(k) < 2 || (len(r.Value) > 0 && !isName(string(r.Value))) || len(r.Value) > 64 {
		return Pool{}, invalid(Addresses, r, "not a pool")
	}
	addr, ok := netip.AddrFromSlice(k[1:])
	if !ok || addr.Is4In6() {
		return Pool{}, invalid(Addresses, r, "not a network")
	}
	p := netip.PrefixFrom(addr, int(k[0]))
	if !p.IsValid() || p.Masked() != p {
		return Pool{}, invalid(Addresses, r, "not a network")
	}
	return Pool{Prefix: p, Gateway: string(r.Value)}, nil
}

func decodeTicketKey(r Record) (TicketKey, error) {
	if len(r.Key) != 9 || len(r.Value) != 8+32 {
		return TicketKey{}, invalid(Tickets, r, "not a key")
	}
	from, ok := seconds(r.Value)
	if !ok {
		return TicketKey{}, invalid(Tickets, r, "not a time")
	}
	return TicketKey{ID: [8]byte(r.Key[1:]), From: from, Secret: [32]byte(r.Value[8:])}, nil
}

func decodeAuthority(r Record) (Authority, error) {
	if digest := sha256.Sum256(r.Value); len(r.Value) == 0 || !bytes.Equal(r.Key[1:], digest[:]) {
		return Authority{}, invalid(Trust, r, "not under the SHA-256 of a certificate")
	}
	return Authority{Root: r.Key[0] == kindRoot, DER: r.Value}, nil
}

// seconds reads a time between 1970 and the year 9999.
func seconds(b []byte) (time.Time, bool) {
	s := binary.BigEndian.Uint64(b)
	return time.Unix(int64(s), 0).UTC(), s <= 253402300799
}

func prefixKey(p netip.Prefix) []byte {
	p = p.Masked()
	return append([]byte{byte(p.Bits())}, p.Addr().AsSlice()...)
}

// isName: 1 to 64 of lower case letters, digits, '.', '_', '-' and '@'.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-@", r)
	}) < 0
}
