package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// issueResult of gateway and device.
type issueResult struct {
	Name     string    `json:"name"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Files    []string  `json:"files"`
	// Profile is the kind of client, and Notes what it can't take; of device
	// with a profile only.
	Profile string   `json:"profile,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

func (s *state) printIssued(c *cobra.Command, certificate *x509.Certificate, files ...string) error {
	return s.printResult(c, issueResult{
		Name: certificate.Subject.CommonName, Serial: ca.SerialString(certificate.SerialNumber),
		NotAfter: certificate.NotAfter, Files: files,
	})
}

func (s *state) printResult(c *cobra.Command, r issueResult) error {
	return s.print(c.OutOrStdout(), r, []row{
		{"name", r.Name}, {"serial", r.Serial}, {"until", day(r.NotAfter)}, {"files", strings.Join(r.Files, " ")},
	})
}

// prepare makes the key and checks everything that needs no CA.
func prepare(request *ca.Request, key string, days int) (crypto.Signer, error) {
	// Above a century of days the product would overflow.
	if days < 1 || days > 36500 {
		return nil, command.Usagef("--days %d is not in 1..36500", days)
	}
	request.Lifetime = time.Duration(days) * 24 * time.Hour
	var private crypto.Signer
	if request.PublicKey == nil {
		var err error
		if private, err = ca.GenerateKey(ca.KeyAlgorithm(key)); err != nil {
			return nil, &command.UsageError{Err: fmt.Errorf("--key: %w", err)}
		}
		request.PublicKey = private.Public()
	}
	if err := ca.CheckRequest(*request); err != nil {
		return nil, &command.UsageError{Err: err}
	}
	return private, nil
}

// deviceFlags of the command device.
type deviceFlags struct {
	key, format, csr, out string
	days                  int
	force                 bool
	password              command.Secret
	profile               profileFlags
}

func (s *state) deviceCommand() *cobra.Command {
	f := deviceFlags{password: command.Secret{Name: "password", What: "password of the PKCS#12 file"}}
	c := &cobra.Command{
		Use:   "device NAME",
		Short: "Issue the certificate of a device",
		Long: `Issue the certificate of a device.

Format pem writes NAME.pem, NAME.key and NAME.ca.pem. Format p12 writes NAME.p12
with AES-256 for current systems; p12-legacy uses 3DES and SHA-1, for older
Windows, iOS and macOS that can't read the other: use it with a long random
password only.

With --csr the device keeps its key: the public key is taken from the PKCS#10
request, everything else in the request is ignored.
` + profileHelp,
		Example: `  gatewayd pki device phone-1 --format p12 --password-file ./phone-1.pass
  gatewayd pki device laptop-7 --key rsa-3072 --days 30 --out ./laptop-7
  gatewayd pki device till-2 --csr till-2.csr
  gatewayd pki device laptop-7 --profile strongswan --gateway vpn.example.org
  gatewayd pki device phone-1 --profile apple --gateway vpn.example.org --network 10.0.0.0/8 --connect always
  gatewayd pki device phone-2 --profile sswan --gateway vpn.example.org --qr https://get.example.org/p/
  gatewayd pki device pc-3 --profile windows --gateway vpn1.example.org,vpn2.example.org --network 0.0.0.0/0 --proxy proxy.example.org:3128 --proxy-exception '*.example.org'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return command.Usagef("want the name of one device, got %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return s.issueDevice(c, args[0], f) },
	}
	c.Flags().StringVar(&f.key, "key", string(ca.KeyAlgorithms[0]), "kind of key: "+keyAlgorithms())
	c.Flags().StringVar(&f.format, "format", "pem", "pem, p12 or p12-legacy")
	c.Flags().StringVar(&f.csr, "csr", "", "PKCS#10 request in PEM with the device's public key")
	c.Flags().StringVar(&f.out, "out", ".", "directory for the files")
	c.Flags().IntVar(&f.days, "days", int(ca.DeviceLifetime/(24*time.Hour)), "lifetime in days")
	c.Flags().BoolVar(&f.force, "force", false, "overwrite files")
	f.password.Add(c.Flags())
	f.profile.add(c, s.configDir)
	return c
}

// encoders of PKCS#12 by the name of the format.
var encoders = map[string]*pkcs12.Encoder{
	"p12":        pkcs12.Modern2023.WithIterations(100_000),
	"p12-legacy": pkcs12.LegacyDES,
}

func (s *state) issueDevice(c *cobra.Command, name string, f deviceFlags) error {
	if err := f.profile.check(c.Flags()); err != nil {
		return err
	}
	request := ca.Request{Profile: ca.Device, Name: name}
	if f.csr != "" {
		if encoders[f.format] != nil {
			return command.Usagef("--csr: without its private key there is no PKCS#12 file to write")
		}
		var err error
		if request.PublicKey, err = publicKeyOf(f.csr); err != nil {
			return err
		}
	}
	if f.profile.kind != "" {
		return s.issueProfile(c, request, f)
	}
	return s.issueFiles(c, request, f)
}

// issueProfile finds whatever could fail before it issues.
func (s *state) issueProfile(c *cobra.Command, request ca.Request, f deviceFlags) error {
	if !c.Flags().Changed("key") {
		f.key = string(f.profile.defaultKey())
	}
	p, err := s.settings(c, &f.profile)
	if err != nil {
		return err
	}
	if p.Key, err = prepare(&request, f.key, f.days); err != nil {
		return err
	}
	plan, err := s.planProfile(c, request.Name, f, p)
	if err != nil {
		return err
	}
	a, err := s.open(c)
	if err != nil {
		return err
	}
	defer a.Close()
	certificate, err := a.Issue(time.Now(), request)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "issued certificate %s\n", ca.SerialString(certificate.SerialNumber))
	files, notes, err := plan.write(c, a, certificate)
	if err != nil {
		return fmt.Errorf("certificate %s was issued, but: %w", ca.SerialString(certificate.SerialNumber), err)
	}
	plan.show(c, notes)
	return s.printResult(c, issueResult{
		Name: certificate.Subject.CommonName, Serial: ca.SerialString(certificate.SerialNumber),
		NotAfter: certificate.NotAfter, Files: files, Profile: f.profile.kind, Notes: notes,
	})
}

// issueFiles writes certificate and key, without a profile.
func (s *state) issueFiles(c *cobra.Command, request ca.Request, f deviceFlags) error {
	encoder, isP12 := encoders[f.format]
	if !isP12 && f.format != "pem" {
		return command.Usagef("--format %q is none of pem, p12, p12-legacy", f.format)
	}
	private, err := prepare(&request, f.key, f.days)
	if err != nil {
		return err
	}
	base := filepath.Join(f.out, strings.ToLower(request.Name))
	files := []string{base + ".pem", base + ".key", base + ".ca.pem"}
	switch {
	case isP12:
		files = []string{base + ".p12"}
	case private == nil:
		files = []string{base + ".pem", base + ".ca.pem"}
	}
	if !f.force {
		if err := checkAbsent(files...); err != nil {
			return err
		}
	}
	var password []byte
	if isP12 {
		if password, err = f.password.Read(c, command.Twice); err != nil {
			return err
		}
		defer clear(password)
	}
	a, err := s.open(c)
	if err != nil {
		return err
	}
	defer a.Close()
	certificate, err := a.Issue(time.Now(), request)
	if err != nil {
		return err
	}
	if isP12 {
		err = writeP12(encoder, a, files[0], certificate, private, password, f.force)
	} else {
		err = writePair(a, base, certificate, private, f.force)
		if err == nil {
			err = ca.WriteFile(base+".ca.pem", ca.EncodeCertificates(a.Issuing(), a.Root()), 0o644, f.force)
		}
	}
	if err != nil {
		return fmt.Errorf("certificate %s was issued, but: %w", ca.SerialString(certificate.SerialNumber), err)
	}
	return s.printIssued(c, certificate, files...)
}

func writeP12(encoder *pkcs12.Encoder, a *ca.CA, path string, certificate *x509.Certificate, key crypto.Signer, password []byte, replace bool) error {
	data, err := encoder.Encode(key, certificate, []*x509.Certificate{a.Issuing(), a.Root()}, string(password))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return ca.WriteFile(path, data, 0o600, replace)
}

// publicKeyOf a request whose signature shows that its sender has the key.
func publicKeyOf(path string) (crypto.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("%s is not a PKCS#10 request in PEM", path)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return request.PublicKey, nil
}
