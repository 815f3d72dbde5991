package pki

import (
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

func (s *state) initCommand() *cobra.Command {
	var (
		key, name, oid string
		plain, force   bool
	)
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a root and an issuing CA",
		Long: `Make a root and an issuing CA, an empty revocation list and an instance OID.

The keys are kept under a passphrase unless --plain-keys is given. The root's
key is not needed afterwards: move it to a safe place.`,
		Example: `  gatewayd pki init
  gatewayd pki init --ca-passphrase-file /root/ca.pass --key ecdsa-p384
  gatewayd pki init --plain-keys --dir ./pki`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := ca.Options{Dir: s.dir, Name: name, Key: ca.KeyAlgorithm(key), Replace: force}
			if plain && s.passphrase.Given() {
				return command.Usagef("--plain-keys and a passphrase exclude each other")
			}
			if oid != "" {
				var err error
				if o.InstanceOID, err = x509.ParseOID(oid); err != nil {
					return command.Usagef("--instance-oid %q: %w", oid, err)
				}
			}
			if !plain {
				var err error
				if o.Passphrase, err = s.passphrase.Read(c, command.Twice); err != nil {
					return err
				}
				defer clear(o.Passphrase)
			}
			a, err := ca.Create(time.Now(), o)
			if err != nil {
				return err
			}
			defer a.Close()
			return s.printCA(c, a)
		},
	}
	c.Flags().StringVar(&key, "key", string(ca.KeyAlgorithms[0]), "kind of both keys: "+keyAlgorithms())
	c.Flags().StringVar(&name, "name", "Roamgate", "beginning of the names of both CAs")
	c.Flags().StringVar(&oid, "instance-oid", "", "OID of this installation (default: a new one below 2.25)")
	c.Flags().BoolVar(&plain, "plain-keys", false, "keep the keys without a passphrase, mode 0600")
	c.Flags().BoolVar(&force, "force", false, "put aside a CA that is there")
	return c
}

// caResult of init and show.
type caResult struct {
	Dir         string    `json:"dir"`
	Root        string    `json:"root"`
	Issuing     string    `json:"issuing"`
	InstanceOID string    `json:"instance_oid"`
	NotAfter    time.Time `json:"not_after"`
	RootFile    string    `json:"root_file"`
	IssuingFile string    `json:"issuing_file"`
	CRLFile     string    `json:"crl_file"`
	CRLNumber   string    `json:"crl_number"`
	NextUpdate  time.Time `json:"crl_next_update"`
	Revoked     int       `json:"revoked"`
}

func (s *state) printCA(c *cobra.Command, a *ca.CA) error {
	list, err := a.CRL()
	if err != nil {
		return err
	}
	r := caResult{
		Dir:         a.Dir(),
		Root:        a.Root().Subject.String(),
		Issuing:     a.Issuing().Subject.String(),
		InstanceOID: a.InstanceOID().String(),
		NotAfter:    a.Issuing().NotAfter,
		RootFile:    filepath.Join(a.Dir(), ca.RootFile),
		IssuingFile: filepath.Join(a.Dir(), ca.IssuingFile),
		CRLFile:     filepath.Join(a.Dir(), ca.CRLFile),
		CRLNumber:   list.Number.String(),
		NextUpdate:  list.NextUpdate,
		Revoked:     len(list.RevokedCertificateEntries),
	}
	return s.print(c.OutOrStdout(), r, []row{
		{"root", r.Root}, {"issuing", r.Issuing}, {"until", day(r.NotAfter)}, {"instance OID", r.InstanceOID},
		{"root certificate", r.RootFile}, {"issuing certificate", r.IssuingFile},
		{"revocation list", r.CRLFile + ", number " + r.CRLNumber + ", next before " + day(r.NextUpdate)},
	})
}

func (s *state) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show the CA and its revocation list",
		Example: "  gatewayd pki show -o json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := s.openReadOnly()
			if err != nil {
				return err
			}
			defer a.Close()
			return s.printCA(c, a)
		},
	}
}
