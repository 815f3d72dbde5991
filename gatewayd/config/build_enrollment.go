package config

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/admit"
)

// BuiltEnrollment is what the files say that the section enrollment names.
type BuiltEnrollment struct {
	// Devices and Admins are the certificates of the two listeners. A reload
	// replaces them.
	Devices, Admins []tls.Certificate
	// Instance is nil where there are no other instances; Roots are theirs, in the
	// order of the configuration.
	Instance *tls.Certificate
	Roots    []*x509.CertPool
	Warnings []string
}

// BuildEnrollment reads the certificates and keys that the section enrollment
// names. The error is of type Problems; now serves for warnings about validity.
func (c *Config) BuildEnrollment(now time.Time) (*BuiltEnrollment, error) {
	b := &builder{Config: c, now: now}
	e := &c.Enrollment
	built := &BuiltEnrollment{
		Devices: b.tlsCredentials("enrollment.credentials", e.Credentials),
		Admins:  b.tlsCredentials("enrollment.admin.credentials", e.Admin.Credentials),
	}
	b.checkURL(built.Devices)
	if e.Instance.Listen.IsValid() || len(e.Instances) > 0 {
		if own, ok := b.tlsCredential("enrollment.instance.", Credential{e.Instance.Certificate, e.Instance.Key}); ok {
			built.Instance = &own
		}
	}
	for i, other := range e.Instances {
		pool := x509.NewCertPool()
		for _, root := range read(b, fmt.Sprintf("enrollment.instances[%d].root", i), other.Root, admit.ParseCertificates) {
			pool.AddCert(root)
		}
		built.Roots = append(built.Roots, pool)
	}
	if e.Database.Postgres != "" && e.Database.TLS == TLSNone {
		b.warn("enrollment.database.tls", "off: whoever is on the way to the database reads and changes everything")
	}
	built.Warnings = b.warnings
	if err := b.problems.err(); err != nil {
		return nil, err
	}
	return built, nil
}

func (b *builder) tlsCredentials(key string, list []Credential) (out []tls.Certificate) {
	for i, c := range list {
		if made, ok := b.tlsCredential(fmt.Sprintf("%s[%d].", key, i), c); ok {
			out = append(out, made)
		}
	}
	return out
}

// tlsCredential reads a server's certificate with its chain, and its key.
func (b *builder) tlsCredential(key string, c Credential) (tls.Certificate, bool) {
	out, ok := b.tlsPair(key, c)
	if ok && !slices.Contains(out.Leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		b.warn(key+"certificate", "has no extended key usage serverAuth; clients refuse it")
	}
	return out, ok
}

// tlsPair is the same for either side of a connection.
func (b *builder) tlsPair(key string, c Credential) (tls.Certificate, bool) {
	chain := read(b, key+"certificate", c.Certificate, admit.ParseCertificates)
	signer := b.privateKey(key+"key", c.Key)
	if len(chain) == 0 || signer == nil {
		return tls.Certificate{}, false
	}
	leaf := chain[0]
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		b.say(key+"key", "got a key that is not of the certificate %s (%s), expected its key", c.Certificate, leaf.Subject)
		return tls.Certificate{}, false
	}
	switch {
	case b.now.Before(leaf.NotBefore):
		b.warn(key+"certificate", "not valid before %s", leaf.NotBefore.Format(time.RFC3339))
	case b.now.After(leaf.NotAfter):
		b.warn(key+"certificate", "expired on %s; its peers refuse it", leaf.NotAfter.Format(time.RFC3339))
	case b.now.Add(soon).After(leaf.NotAfter):
		b.warn(key+"certificate", "expires on %s", leaf.NotAfter.Format(time.RFC3339))
	}
	out := tls.Certificate{PrivateKey: signer, Leaf: leaf}
	for _, certificate := range chain {
		if len(out.Certificate) == 0 || string(certificate.RawIssuer) != string(certificate.RawSubject) {
			out.Certificate = append(out.Certificate, certificate.Raw)
		}
	}
	return out, true
}

// checkURL wants the name that users are given in one of the certificates.
func (b *builder) checkURL(list []tls.Certificate) {
	name := b.Enrollment.Host()
	for _, c := range list {
		if c.Leaf.VerifyHostname(name) == nil {
			return
		}
	}
	if len(list) > 0 {
		b.warn("enrollment.url", "%s is in none of enrollment.credentials (%s); browsers will warn", name, strings.TrimSpace(alternativeNames(list[0].Leaf)))
	}
}
