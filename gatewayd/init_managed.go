package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// initManagedFlags are the flags of init gateway; empty ones are found out.
type initManagedFlags struct {
	initFlags
	managed                bool
	name, host             string
	listen                 netip.AddrPort
	root, certificate, own string
	intermediates          []string
	oid                    string
	tunnel                 netip.Addr
}

func (g *global) initGatewayCommand() *cobra.Command {
	f := &initManagedFlags{}
	c := &cobra.Command{
		Use:   "gateway --managed",
		Short: "Write the configuration of a gateway that a manager configures",
		Long: `Write the configuration of a gateway that a manager configures, and make the key
of its management port. It prints what an administrator of the manager types to
have the gateway join: its address and the fingerprint of that key.

The installation's root and issuing certificates and its OID are copied from
where the CA is (` + "`gatewayd pki show`" + `), and so are the certificate and key by which
devices know the gateway (` + "`gatewayd certificate issue gateway NAME`" + `). Without
--managed it is ` + "`gatewayd init`" + `, with a CA of its own. Nothing is overwritten.`,
		Example: `  gatewayd init gateway --managed --name gw1 --id vpn1.example.com --instance-oid 2.25.123
  gatewayd init gateway --managed --name gw1 --host gw1.inside.example.com --listen 10.2.0.1:8447 \
    --root root.pem --intermediate issuing.pem --instance-oid 2.25.123`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if !f.managed {
				return usage("want --managed; for a gateway with a CA of its own there is `gatewayd init`")
			}
			return f.run(c, g)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&f.managed, "managed", false, "the gateway has a manager")
	flags.StringVar(&f.dir, "dir", "", "folder for everything (default: "+filepath.Dir(config.SystemFile)+" and the system's other folders)")
	flags.StringVar(&f.name, "name", "", "what the manager calls this gateway, such as gw1")
	flags.StringVar(&f.host, "host", "", "DNS name in its certificate for the management port (default: the name)")
	flags.TextVar(&f.listen, "listen", netip.AddrPort{}, "where managers dial (default: the internal interface, port "+strconv.Itoa(managementPort)+")")
	flags.StringVar(&f.external, "external", "", "interface toward the devices")
	flags.StringVar(&f.internal, "internal", "", "interface toward the networks behind the gateway, and the manager")
	flags.TextVar(&f.address, "address", netip.Addr{}, "address of the external interface that devices dial")
	flags.StringVar(&f.id, "id", "", "name of the gateway that devices know it by (default: its address)")
	flags.TextVar(&f.tunnel, "tunnel-address", netip.Addr{}, "IPv4 address of the gateway inside the tunnel, for Windows and alerts")
	flags.StringVar(&f.root, "root", "root.pem", "root certificate of the installation")
	flags.StringArrayVar(&f.intermediates, "intermediate", []string{"issuing.pem"}, "issuing certificate, may be repeated")
	flags.StringVar(&f.oid, "instance-oid", "", "OID of the installation")
	flags.StringVar(&f.certificate, "certificate", "gateway.pem", "certificate for devices, with its intermediates")
	flags.StringVar(&f.own, "certificate-key", "gateway.key", "key of that certificate")
	flags.StringVar(&f.key, "key", "", "kind of the management key: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072")
	flags.StringVar(&f.owner, "owner", "", "user who runs the gateway and owns its key (default: gatewayd where that user exists)")
	return c
}

//go:embed init_managed.yaml.tmpl
var initManagedTemplate string

func (f *initManagedFlags) run(c *cobra.Command, g *global) error {
	p, err := f.paths(g, c.Flags().Changed("config"))
	if err != nil {
		return err
	}
	switch {
	case f.name == "":
		return usage("want --name, what the manager calls this gateway")
	case f.oid == "":
		return hinted{usage("want --instance-oid, the OID of the installation"), "`gatewayd pki show` on the CA's host tells it."}
	}
	return staged(c.OutOrStdout(), p, func(s *staging) error { return f.write(c.OutOrStdout(), s) })
}

func (f *initManagedFlags) write(w io.Writer, s *staging) error {
	p := s.final
	if err := s.fresh(); err != nil {
		return err
	}
	internal, err := f.findOutManaged()
	if err != nil {
		return err
	}
	if !f.listen.IsValid() {
		f.listen = netip.AddrPortFrom(internal, managementPort)
	}
	if f.host == "" {
		f.host = f.name
	}
	text, err := f.renderManaged(p)
	if err != nil {
		return err
	}
	known, err := f.makeKey(s.dir)
	if err != nil {
		return err
	}
	if err := ca.WriteFile(s.file(), text, 0o644, false); err != nil {
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	fmt.Fprintf(w, "configuration  %s\n", p.file)
	fmt.Fprintf(w, "external       %s, %s\n", f.external, f.address)
	fmt.Fprintf(w, "internal       %s\n", f.internal)
	fmt.Fprintf(w, "identity       %s\n", f.id)
	fmt.Fprintf(w, "managers dial  %s\n", f.listen)
	fmt.Fprintf(w, "fingerprint    %x\n", known)
	missing := f.missing(filepath.Dir(p.file))
	fmt.Fprintf(w, "\nNext:\n")
	for _, name := range missing {
		fmt.Fprintf(w, "  copy %s to %s\n", name, filepath.Dir(p.file))
	}
	fmt.Fprintf(w, "  gatewayd run gateway --config %s\n", p.file)
	fmt.Fprintf(w, "and on the manager:\n  gatewayd gateway add %s %s --host %s --fingerprint %x\n", f.name, f.listen, f.host, known)
	return nil
}

// managementKey is the name of the file, beside the configuration.
const managementKey = "gateway.management.key"

// makeKey of the management port in a folder, and its fingerprint.
func (f *initManagedFlags) makeKey(dir string) (known [sha256.Size]byte, err error) {
	key, err := ca.GenerateKey(ca.KeyAlgorithm(f.key))
	if err != nil {
		return known, usage("--key: %w", err)
	}
	if known, err = fingerprint(key.Public()); err != nil {
		return known, err
	}
	secret, err := ca.EncodeKey(key)
	if err != nil {
		return known, err
	}
	defer clear(secret)
	file := filepath.Join(dir, managementKey)
	if err := ca.WriteFile(file, secret, 0o600, false); err != nil {
		return known, err
	}
	return known, f.giveKey(file)
}

// fingerprint of a public key: SHA-256 of it in PKIX form, by which a manager knows
// a gateway before it has a certificate.
func fingerprint(key crypto.PublicKey) ([sha256.Size]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return sha256.Sum256(der), err
}

// findOutManaged: interfaces and addresses. A pool is not asked for.
func (f *initManagedFlags) findOutManaged() (internal netip.Addr, err error) {
	f.pool = netip.MustParsePrefix("0.0.0.0/32")
	if err := f.findOut(); err != nil {
		return netip.Addr{}, err
	}
	list, err := candidates()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, c := range list {
		if c.name == f.internal && len(c.addresses) > 0 {
			return c.addresses[0].Addr(), nil
		}
	}
	return netip.Addr{}, hinted{fmt.Errorf("interface %s has no IPv4 address", f.internal), "Say where managers dial with --listen."}
}

// renderManaged makes the file and checks it as `run gateway` would.
func (f *initManagedFlags) renderManaged(p initPaths) ([]byte, error) {
	t := template.Must(template.New("init").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(initManagedTemplate))
	var b bytes.Buffer
	err := t.Execute(&b, map[string]any{
		"State": p.state, "Runtime": p.runtime, "External": f.external, "Internal": f.internal, "Address": f.address, "ID": f.id,
		"Tunnel": f.tunnel, "Certificate": f.certificate, "Key": f.own, "Root": f.root, "Intermediates": f.intermediates,
		"InstanceOID": f.oid, "Listen": f.listen, "Name": f.name, "Host": f.host, "ManagementKey": managementKey,
	})
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(p.file, b.Bytes()); err != nil {
		return nil, fmt.Errorf("these values don't make a configuration:\n%w", err)
	}
	return b.Bytes(), nil
}

// missing files, which somebody has to copy.
func (f *initManagedFlags) missing(dir string) (names []string) {
	for _, name := range append([]string{f.root, f.certificate, f.own}, f.intermediates...) {
		at := name
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		if _, err := os.Stat(at); err != nil {
			names = append(names, name)
		}
	}
	return names
}
