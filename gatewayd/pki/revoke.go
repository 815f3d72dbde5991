package pki

import (
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// revokeResult of revoke and crl.
type revokeResult struct {
	Serials    []string  `json:"serials"`
	CRLFile    string    `json:"crl_file"`
	CRLNumber  string    `json:"crl_number"`
	NextUpdate time.Time `json:"crl_next_update"`
}

func (s *state) printRevoked(c *cobra.Command, a *ca.CA, serials []string) error {
	list, err := a.CRL()
	if err != nil {
		return err
	}
	r := revokeResult{serials, filepath.Join(a.Dir(), ca.CRLFile), list.Number.String(), list.NextUpdate}
	rows := []row{{"revocation list", r.CRLFile + ", number " + r.CRLNumber + ", next before " + day(r.NextUpdate)}}
	if len(serials) > 0 {
		rows = append([]row{{"revoked", strings.Join(serials, " ")}}, rows...)
	}
	return s.print(c.OutOrStdout(), r, rows)
}

func (s *state) revokeCommand() *cobra.Command {
	var serial, reasonName string
	var names []string
	for _, reason := range ca.Reasons {
		names = append(names, reason.String())
	}
	c := &cobra.Command{
		Use:   "revoke NAME | --serial HEX",
		Short: "Revoke certificates and publish a new revocation list",
		Long: `Revoke every certificate of a device or gateway that is still valid, or one by
its serial number, and publish a new revocation list. Revoking again does no harm.`,
		Example: `  gatewayd pki revoke phone-1 --reason key-compromise
  gatewayd pki revoke --serial 5a1f3c0e8b7d46f2a1908c7d6e5f4a3b`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (serial != "") {
				return command.Usagef("want either one name or --serial")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			reason, err := ca.ParseReason(reasonName)
			if err != nil {
				return &command.UsageError{Err: err}
			}
			var serials []string
			if serial != "" {
				n, err := ca.ParseSerial(serial)
				if err != nil {
					return &command.UsageError{Err: err}
				}
				serials = []string{ca.SerialString(n)}
			}
			a, err := s.open(c)
			if err != nil {
				return err
			}
			defer a.Close()
			if serial == "" {
				if serials, err = serialsOf(a, args[0]); err != nil {
					return err
				}
			}
			for _, text := range serials {
				if err := revoke(a, text, reason); err != nil {
					return err
				}
			}
			return s.printRevoked(c, a, serials)
		},
	}
	c.Flags().StringVar(&serial, "serial", "", "serial number in hexadecimal")
	c.Flags().StringVar(&reasonName, "reason", names[0], strings.Join(names, ", "))
	return c
}

// revoke takes ErrRevoked for success: the caller wants it revoked, and the
// list has been checked.
func revoke(a *ca.CA, text string, reason ca.Reason) error {
	serial, ok := new(big.Int).SetString(text, 16)
	if !ok {
		return fmt.Errorf("serial number %q", text)
	}
	err := a.Revoke(time.Now(), serial, reason)
	if errors.Is(err, ca.ErrRevoked) {
		return nil
	}
	return err
}

// serialsOf the certificates of that name that have not expired.
func serialsOf(a *ca.CA, name string) ([]string, error) {
	all, err := a.Issued()
	if err != nil {
		return nil, err
	}
	var serials []string
	for _, i := range all {
		if i.Name == strings.ToLower(name) && time.Now().Before(i.NotAfter) {
			serials = append(serials, i.Serial)
		}
	}
	if len(serials) == 0 {
		return nil, fmt.Errorf("no valid certificate of %q; see `gatewayd pki list`", name)
	}
	return serials, nil
}

func (s *state) crlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "crl",
		Short: "Publish a new revocation list",
		Long: `Publish a new revocation list with a later nextUpdate. Issuing and revoking
do that on their way; an installation that does neither for weeks wants a timer.`,
		Example: "  gatewayd pki crl --ca-passphrase-file /root/ca.pass",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := s.open(c)
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.PublishCRL(time.Now()); err != nil {
				return err
			}
			return s.printRevoked(c, a, nil)
		},
	}
}

func (s *state) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List what was issued",
		Example: "  gatewayd pki list -o json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := s.openReadOnly()
			if err != nil {
				return err
			}
			defer a.Close()
			all, err := a.Issued()
			if err != nil {
				return err
			}
			if all == nil {
				all = []ca.Issued{}
			}
			return command.Print(c.OutOrStdout(), string(s.output), all, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "NAME\tPROFILE\tSERIAL\tUNTIL\tSTATE")
				for _, i := range all {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.Name, i.Profile, i.Serial, day(i.NotAfter), stateOf(i))
				}
			})
		},
	}
}

func stateOf(i ca.Issued) string {
	switch {
	case !i.RevokedAt.IsZero():
		return "revoked " + day(i.RevokedAt) + ", " + i.Reason.String()
	case time.Now().After(i.NotAfter):
		return "expired"
	default:
		return "valid"
	}
}
