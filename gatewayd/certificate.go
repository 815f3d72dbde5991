package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

func (g *global) certificateCommand() *cobra.Command {
	f := &adminFlags{global: g}
	c := group("certificate", "Show, issue and revoke certificates of an enrollment server",
		f.certificateList(), f.certificateShow(), f.certificateIssue(), f.certificateRevoke(), f.certificateCRL())
	c.Example = `  gatewayd certificate list --device phone-1
  gatewayd certificate revoke 3f02a1 --reason key-compromise
  gatewayd certificate issue admin carol --out ./carol`
	f.add(c)
	return c
}

func (f *adminFlags) serials() cobra.CompletionFunc {
	return f.completed(func(c *cobra.Command, client *admin.Client) ([]string, error) {
		list, err := client.Certificates(c.Context(), admin.CertificateFilter{Valid: true}, 100)
		var names []string
		for _, v := range list {
			names = append(names, v.Serial+"\t"+v.Profile+" "+v.Name)
		}
		return names, err
	})
}

func profileNames() (names []string) {
	for _, p := range ca.Profiles {
		names = append(names, string(p))
	}
	return names
}

func (f *adminFlags) certificateList() *cobra.Command {
	var o *output
	var filter admin.CertificateFilter
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List certificates",
		Example: "  gatewayd certificate list --valid --profile admin\n  gatewayd certificate list --device phone-1 -o yaml",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			list, err := client.Certificates(c.Context(), filter, limit)
			if err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), list, func(t *tabwriter.Writer) {
				fmt.Fprintln(t, "SERIAL\tPROFILE\tNAME\tUNTIL\tREVOKED")
				for _, v := range list {
					revoked := "-"
					if !v.Revoked.IsZero() {
						revoked = when(v.Revoked) + " " + v.Reason
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.Serial, v.Profile, v.Name, when(v.NotAfter), revoked)
				}
			})
		}),
	}
	c.Flags().StringVar(&filter.Device, "device", "", "of this device")
	c.Flags().StringVar(&filter.Name, "name", "", "for this name")
	c.Flags().StringVar(&filter.Profile, "profile", "", commas(profileNames()))
	c.Flags().BoolVar(&filter.Valid, "valid", false, "leave out what was revoked or is over")
	limitFlag(c, &limit)
	_ = c.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions(profileNames(), cobra.ShellCompDirectiveNoFileComp))
	o = addOutput(c, "table", "json", "yaml")
	return c
}

func (f *adminFlags) certificateShow() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use: "show SERIAL", Short: "Show a certificate",
		Example:           "  gatewayd certificate show 3f02a1\n  gatewayd certificate show 3f02a1 -o pem | openssl x509 -noout -text",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.serials(),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			v, err := client.Certificate(c.Context(), names[0])
			if err != nil {
				return err
			}
			if o.format == "pem" {
				_, err := fmt.Fprint(c.OutOrStdout(), v.PEM)
				return err
			}
			return o.print(c.OutOrStdout(), v, func(t *tabwriter.Writer) {
				fmt.Fprintf(t, "serial\t%s\nprofile\t%s\nname\t%s\n", v.Serial, v.Profile, v.Name)
				fmt.Fprintf(t, "valid\t%s to %s%s\n", when(v.NotBefore), when(v.NotAfter), revokedText(v))
				fmt.Fprintf(t, "request\t%s\nrenews\t%s\nSHA-256\t%s\n", orDash(v.Request), orDash(v.Renews), orDash(v.SHA256))
			})
		}),
	}
	o = addOutput(c, "table", "json", "yaml", "pem")
	return c
}

func (f *adminFlags) certificateRevoke() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke SERIAL", Short: "Revoke a certificate",
		Long: `Revoke a certificate, and those that were renewed from it unless the reason is
superseded. Gateways refuse them from the next revocation list on. The device keeps
its place: ` + "`gatewayd enrollment device close`" + ` takes that, too.`,
		Example:           "  gatewayd certificate revoke 3f02a1 --reason key-compromise",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.serials(),
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			v, err := client.Revoke(c.Context(), names[0], reason)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "certificate %s of %s is revoked (%s)\n", v.Serial, v.Name, v.Reason)
			return err
		}),
	}
	reasonFlag(c, &reason)
	return c
}

func (f *adminFlags) certificateCRL() *cobra.Command {
	var delta bool
	var format string
	c := &cobra.Command{
		Use: "crl", Short: "Print the revocation list, as gateways read it",
		Example: "  gatewayd certificate crl > crl.pem\n  gatewayd certificate crl --delta --format der > delta.crl",
		Args:    args(cobra.NoArgs),
		RunE: f.with(func(c *cobra.Command, _ []string, client *admin.Client) error {
			if format != "pem" && format != "der" {
				return usage("--format %q is none of pem, der", format)
			}
			data, err := client.CRL(c.Context(), delta)
			if err != nil {
				return err
			}
			if format == "pem" {
				data = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: data})
			}
			_, err = c.OutOrStdout().Write(data)
			return err
		}),
	}
	c.Flags().BoolVar(&delta, "delta", false, "the delta to the complete list")
	c.Flags().StringVar(&format, "format", "pem", "pem or der")
	return c
}

func (f *adminFlags) certificateIssue() *cobra.Command {
	var o *output
	var out, key string
	var days int
	kinds := []string{"admin", "gateway", "server", "peer"}
	c := &cobra.Command{
		Use:   "issue admin|gateway|server|peer NAME...",
		Short: "Issue a certificate that isn't a device's",
		Long: `Issue the certificate of an administrator, or of a gateway, server or other
instance by its host names and addresses. The key is made here and stays here.
This takes the place of ` + "`gatewayd pki`" + ` where an enrollment server keeps the record.`,
		Example: `  gatewayd certificate issue admin carol --out ./carol
  gatewayd certificate issue gateway vpn2.example.com 203.0.113.9 --out ./vpn2`,
		Args:      args(cobra.MinimumNArgs(2)),
		ValidArgs: kinds,
		RunE: f.with(func(c *cobra.Command, names []string, client *admin.Client) error {
			profile := ca.Profile(names[0])
			if profile == ca.Admin && len(names) != 2 {
				return usage("want the name of one administrator, got %d", len(names)-1)
			}
			request := pki.Named(profile, names[1:])
			private, err := ca.GenerateKey(ca.KeyAlgorithm(key))
			if err != nil {
				return usage("--key: %w", err)
			}
			request.PublicKey = private.Public()
			if err := ca.CheckRequest(request); err != nil || profile == ca.Device || profile == ca.RA {
				return usage("want one of %s and its names: %w", commas(kinds), err)
			}
			base := filepath.Join(out, pki.BaseName(profile))
			for _, name := range []string{base + ".pem", base + ".key"} {
				if _, err := os.Lstat(name); err == nil {
					return fmt.Errorf("%s is there already", name)
				}
			}
			csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
			if err != nil {
				return err
			}
			n := admin.NewCertificate{
				Profile: string(profile), Name: request.Name, DNSNames: request.DNSNames, Days: days,
				CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
			}
			for _, a := range request.Addresses {
				n.Addresses = append(n.Addresses, a.String())
			}
			text, err := ca.EncodeKey(private)
			if err != nil {
				return err
			}
			defer clear(text)
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			// First: a certificate without its key is of no use to anyone.
			if err := ca.WriteFile(base+".key", text, 0o600, false); err != nil {
				return err
			}
			made, err := client.Issue(c.Context(), n)
			if err != nil {
				_ = os.Remove(base + ".key")
				return err
			}
			issuing, _ := pem.Decode([]byte(made.Chain))
			if issuing == nil {
				return fmt.Errorf("the server sent no chain")
			}
			certificate := append([]byte(made.Certificate.PEM), pem.EncodeToMemory(issuing)...)
			if err := ca.WriteFile(base+".pem", certificate, 0o644, false); err != nil {
				return err
			}
			return o.print(c.OutOrStdout(), made.Certificate, func(t *tabwriter.Writer) {
				v := made.Certificate
				fmt.Fprintf(t, "name\t%s\nserial\t%s\nuntil\t%s\nfiles\t%s %s\n", v.Name, v.Serial, when(v.NotAfter), base+".pem", base+".key")
			})
		}),
	}
	c.Flags().StringVar(&out, "out", ".", "folder for the certificate and its key")
	c.Flags().StringVar(&key, "key", string(ca.KeyAlgorithms[0]), "kind of key")
	c.Flags().IntVar(&days, "days", 0, "lifetime in days (default: that of its kind)")
	o = addOutput(c, "table", "json", "yaml")
	return c
}
