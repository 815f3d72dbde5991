package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// caCommand is for an issuing CA below one that isn't ours.
func (s *state) caCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Have the issuing CA signed by a CA that is there already",
		Long: `Have the issuing CA signed by a CA that is there already, in place of "pki init":
a request goes out, a certificate comes in.`,
		Example: `  gatewayd pki ca request --out issuing.csr
  gatewayd pki ca import issuing.pem intermediate.pem root.pem`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(s.requestCommand(), s.importCommand())
	return c
}

// requestResult of ca request.
type requestResult struct {
	RequestFile string `json:"request_file"`
}

func (s *state) requestCommand() *cobra.Command {
	var (
		key, name, oid, out string
		plain               bool
	)
	c := &cobra.Command{
		Use:   "request",
		Short: "Make the key of an issuing CA and the request for its certificate",
		Long: `Make the key of an issuing CA and the request (PKCS#10) for its certificate.

The certificate must allow to sign certificates and revocation lists, and have
the instance OID of the request among its policies, or no policies.`,
		Example: `  gatewayd pki ca request --out issuing.csr
  gatewayd pki ca request --key rsa-3072 --name "Example VPN" --ca-passphrase-file /root/ca.pass`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := ca.Options{Dir: s.dir, Name: name, Key: ca.KeyAlgorithm(key)}
			if plain && s.passphrase.Given() {
				return command.Usagef("--plain-keys and a passphrase exclude each other")
			}
			var err error
			if oid != "" {
				if o.InstanceOID, err = x509.ParseOID(oid); err != nil {
					return command.Usagef("--instance-oid %q: %w", oid, err)
				}
			}
			if out != "" {
				if err := checkAbsent(out); err != nil {
					return err
				}
			}
			if !plain {
				if o.Passphrase, err = s.passphrase.Read(c, command.Twice); err != nil {
					return err
				}
				defer clear(o.Passphrase)
			}
			csr, err := ca.CreateRequest(time.Now(), o, nil)
			if err != nil {
				return err
			}
			r := requestResult{filepath.Join(s.dir, ca.RequestFile)}
			if out != "" {
				r.RequestFile = out
				if err := ca.WriteFile(out, csr, 0o644, false); err != nil {
					return err
				}
			}
			return s.print(c.OutOrStdout(), r, []row{{"request", r.RequestFile}, {"next", "gatewayd pki ca import CERTIFICATE..."}})
		},
	}
	c.Flags().StringVar(&key, "key", string(ca.KeyAlgorithms[0]), "kind of key: "+keyAlgorithms())
	c.Flags().StringVar(&name, "name", "Roamgate", "beginning of the CA's name")
	c.Flags().StringVar(&oid, "instance-oid", "", "OID of this installation (default: a new one below 2.25)")
	c.Flags().StringVar(&out, "out", "", "also write the request to this file")
	c.Flags().BoolVar(&plain, "plain-keys", false, "keep the key without a passphrase, mode 0600")
	return c
}

func (s *state) importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Take the certificate of the issuing CA, new or renewed",
		Long: `Take the certificate of the issuing CA, with those above it to the root, from
files in PEM: the issuing CA first, each followed by its issuer. Doing it again
with a renewed certificate of the same key keeps what was issued.`,
		Example: "  gatewayd pki ca import issuing.pem intermediate.pem root.pem",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.Usagef("want files with the certificates from the issuing CA to the root")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var chain []*x509.Certificate
			for _, file := range args {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				some, err := ca.DecodeCertificates(data)
				if err != nil {
					return command.Usagef("%s: %w", file, err)
				}
				chain = append(chain, some...)
			}
			a, err := ca.Import(time.Now(), s.dir, chain, nil, func() ([]byte, error) { return s.passphrase.Read(c, command.Hidden) })
			if err != nil {
				return err
			}
			defer a.Close()
			return s.printCA(c, a)
		},
	}
}
