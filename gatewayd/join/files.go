package join

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/gatewayd/command"
)

var formats = []string{"pem", "p12", "p12-legacy"}

// encoders of PKCS#12 by the name of the format.
var encoders = map[string]*pkcs12.Encoder{
	"p12":        pkcs12.Modern2023.WithIterations(100_000),
	"p12-legacy": pkcs12.LegacyDES,
}

// set of files of a device.
type set struct {
	files []profile.File
	notes []string
}

// password of a container; written says that it was made and goes to a file.
type password struct {
	text    string
	written bool
}

// readPassword where one is needed.
func (f *flags) readPassword(c *cobra.Command) (password, error) {
	contained := encoders[f.format] != nil || f.profile != "" && profile.Kind(f.profile) != profile.StrongSwan
	switch {
	case !contained && f.password.Given():
		return password{}, command.Usagef("--%s-file and -env are for containers", f.password.Name)
	case !contained:
		return password{}, nil
	case !f.password.Given():
		// 26 characters of base32, 128 bits.
		return password{rand.Text(), true}, nil
	}
	text, err := f.password.Read(c, command.Hidden)
	if err != nil {
		return password{}, err
	}
	defer clear(text)
	least := profile.MinPassword
	if f.format == "p12-legacy" || f.profile != "" && profile.Kind(f.profile) != profile.Windows {
		least = profile.MinLegacyPassword
	}
	if len(text) < least {
		return password{}, command.Usagef("--%s: want %d characters or more", f.password.Name, least)
	}
	return password{text: string(text)}, nil
}

// makeFiles of what was received.
func makeFiles(r *client.Result, f *flags, p password) (set, error) {
	var s set
	// It becomes part of paths.
	name, err := ca.DeviceName(r.Certificate.Subject.CommonName)
	if err != nil {
		return s, err
	}
	switch {
	case f.profile != "":
		err = s.profile(r, f, p)
	case encoders[f.format] != nil:
		err = s.container(r, encoders[f.format], name+".p12", p)
	default:
		err = s.pem(r, name)
	}
	if err != nil {
		return s, err
	}
	if p.written {
		s.add(name+".password", 0o600, []byte(p.text+"\n"))
		s.notes = append(s.notes, fmt.Sprintf("the password of the container is in %s.password; delete it after the import", name))
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, r.Configuration, "", "  "); err != nil {
		return s, fmt.Errorf("configuration: %w", err)
	}
	indented.WriteByte('\n')
	s.add(name+".configuration.json", 0o644, indented.Bytes())
	return s, nil
}

func (s *set) add(name string, mode fs.FileMode, data []byte) {
	s.files = append(s.files, profile.File{Name: name, Mode: mode, Data: data})
}

func (s *set) pem(r *client.Result, name string) error {
	key, err := ca.EncodeKey(r.Key)
	if err != nil {
		return err
	}
	s.add(name+".key", 0o600, key)
	s.add(name+".pem", 0o644, ca.EncodeCertificates(r.Certificate))
	s.add(name+".ca.pem", 0o644, ca.EncodeCertificates(r.Chain...))
	return nil
}

func (s *set) container(r *client.Result, encoder *pkcs12.Encoder, name string, p password) error {
	data, err := encoder.Encode(r.Key, r.Certificate, r.Chain, p.text)
	if err != nil {
		return err
	}
	s.add(name, 0o600, data)
	return nil
}

// profile of a client, from the configuration that came with the certificate.
func (s *set) profile(r *client.Result, f *flags, p password) error {
	var c enroll.Configuration
	if err := json.Unmarshal(r.Configuration, &c); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(c.Gateways) == 0 {
		return fmt.Errorf("the server names no gateway, so there is no profile to make: use --format")
	}
	settings := profile.Profile{
		Device: r.Certificate.Subject.CommonName, Instance: r.InstanceOID, Title: c.Title,
		Roots: []*x509.Certificate{r.Root}, Intermediates: r.Chain[:len(r.Chain)-1],
		Certificate: r.Certificate, Key: r.Key,
		IKE: c.IKE, ESP: c.ESP, Networks: c.Networks, DNS: c.DNS, Domains: c.Domains,
		Connect: profile.Connect(f.connect),
	}
	for _, g := range c.Gateways {
		settings.Gateways = append(settings.Gateways, profile.Gateway{Address: g.Address, ID: g.Identity})
	}
	for _, der := range c.GatewayRoots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("configuration: root of the gateways: %w", err)
		}
		settings.Roots = append(settings.Roots, root)
		settings.GatewayIssuer = root.Subject.CommonName
	}
	b, err := profile.Build(profile.Kind(f.profile), settings, profile.Options{Password: p.text, Rand: rand.Reader})
	if err != nil {
		return err
	}
	s.files, s.notes = append(s.files, b.Files...), append(s.notes, b.Notes...)
	return nil
}
