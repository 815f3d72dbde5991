package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// initFlags are the flags of init; empty ones are found out.
type initFlags struct {
	dir                string
	external, internal string
	address            netip.Addr
	id                 string
	pool               netip.Prefix
	dns                []netip.Addr
	networks           []netip.Prefix
	key                string
	passphraseFile     string
	owner              string
}

func (g *global) initCommand() *cobra.Command {
	f := &initFlags{pool: netip.MustParsePrefix("10.9.0.0/16")}
	c := &cobra.Command{
		Use:   "init",
		Short: "Write a working configuration and a PKI",
		Long: `Write a working configuration and a PKI: a CA, the gateway's certificate and key.
The interface of the default route becomes the external one, the only other one
with an address the internal one; flags say otherwise. Nothing is overwritten.`,
		Example: `  gatewayd init
  gatewayd init --external eth0 --internal eth1 --id vpn.example.com
  gatewayd init --dir ./lab --external gw-out --internal gw-in --address 10.1.0.1`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c, g) },
	}
	c.AddCommand(g.initGatewayCommand(), g.initAllCommand(), g.initEnrollmentCommand(), g.initManagerCommand(), g.initBothCommand())
	flags := c.Flags()
	flags.StringVar(&f.dir, "dir", "", "folder for everything (default: "+filepath.Dir(config.SystemFile)+" and the system's other folders)")
	flags.StringVar(&f.external, "external", "", "interface toward the devices")
	flags.StringVar(&f.internal, "internal", "", "interface toward the networks behind the gateway")
	flags.TextVar(&f.address, "address", netip.Addr{}, "address of the external interface that devices dial")
	flags.StringVar(&f.id, "id", "", "name of the gateway that devices know it by (default: its address)")
	flags.TextVar(&f.pool, "pool", f.pool, "network of virtual addresses")
	flags.Var(textList[netip.Addr]{&f.dns}, "dns", "DNS server for the devices, may be repeated")
	flags.Var(textList[netip.Prefix]{&f.networks}, "network", "network that devices may reach, may be repeated (default: those of the internal interface)")
	flags.StringVar(&f.key, "key", "", "kind of the keys: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072")
	flags.StringVar(&f.passphraseFile, "ca-passphrase-file", "", "file with the passphrase for the CA's keys (default: keys in plain, mode 0600)")
	flags.StringVar(&f.owner, "owner", "", "user who runs the gateway and owns its key (default: gatewayd where that user exists)")
	return c
}

// initPaths is where init writes.
type initPaths struct{ file, pki, state, runtime string }

func (f *initFlags) paths(g *global, changed bool) (initPaths, error) {
	return pathsIn(f.dir, g, changed)
}

// pathsIn a folder, or, where it is empty, the system's; changed: --config was
// given.
func pathsIn(folder string, g *global, changed bool) (initPaths, error) {
	if folder == "" {
		return initPaths{g.config, pki.DefaultDir, config.SystemStateDir, config.SystemRuntimeDir}, nil
	}
	if changed {
		return initPaths{}, usage("--dir and --config exclude each other: the file is gatewayd.yaml in the folder")
	}
	dir, err := filepath.Abs(folder)
	return initPaths{filepath.Join(dir, "gatewayd.yaml"), filepath.Join(dir, "pki"), "state", "run"}, err
}

func (f *initFlags) run(c *cobra.Command, g *global) error {
	p, err := f.paths(g, c.Flags().Changed("config"))
	if err != nil {
		return err
	}
	return staged(c.OutOrStdout(), p, func(s *staging) error { return f.write(c.OutOrStdout(), s) })
}

func (f *initFlags) write(w io.Writer, s *staging) error {
	p := s.final
	if err := s.fresh(); err != nil {
		return err
	}
	if err := f.findOut(); err != nil {
		return err
	}
	options := pki.SetupOptions{Dir: s.pki, ConfigDir: s.dir, Key: ca.KeyAlgorithm(f.key), Addresses: []netip.Addr{f.address}}
	if a, err := netip.ParseAddr(f.id); err != nil {
		options.DNSNames = []string{f.id}
	} else if a != f.address {
		options.Addresses = append(options.Addresses, a)
	}
	if f.passphraseFile != "" {
		passphrase, err := os.ReadFile(f.passphraseFile)
		if err != nil {
			return err
		}
		defer clear(passphrase)
		if options.Passphrase, _, _ = bytes.Cut(passphrase, []byte("\n")); len(options.Passphrase) == 0 {
			return fmt.Errorf("%s: got an empty first line, expected a passphrase", f.passphraseFile)
		}
	}
	// The file is checked before anything is made.
	if _, err := f.render(s, pki.SetupResult{InstanceOID: "2.25.1", Root: "root", Issuing: "issuing", CRL: "crl", Certificate: "certificate", Key: "key"}); err != nil {
		return err
	}
	result, err := pki.Setup(time.Now(), options)
	if err != nil {
		return fmt.Errorf("make a PKI: %w", err)
	}
	if err := f.giveKey(result.Key); err != nil {
		return err
	}
	text, err := f.render(s, result)
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
	fmt.Fprintf(w, "CA             %s\n", p.pki)
	fmt.Fprintf(w, "external       %s, %s\n", f.external, f.address)
	fmt.Fprintf(w, "internal       %s\n", f.internal)
	fmt.Fprintf(w, "identity       %s\n", f.id)
	if f.passphraseFile == "" {
		fmt.Fprintf(w, "\nThe CA's keys have no passphrase; keep %s where only you can read it.\n", p.pki)
	}
	fmt.Fprintf(w, "\nNext:\n  gatewayd pki device phone-1 --dir %s\n  gatewayd run gateway --config %s\n", p.pki, p.file)
	return nil
}

//go:embed init.yaml.tmpl
var initTemplate string

// render makes the file and checks it as `run gateway` would.
func (f *initFlags) render(s *staging, r pki.SetupResult) ([]byte, error) {
	p := s.final
	t := template.Must(template.New("init").Funcs(template.FuncMap{"file": s.named, "quote": strconv.Quote}).Parse(initTemplate))
	var b bytes.Buffer
	err := t.Execute(&b, map[string]any{
		"Version": version, "State": p.state, "Runtime": p.runtime, "External": f.external, "Internal": f.internal,
		"Address": f.address, "ID": f.id, "Pool": f.pool, "DNS": f.dns, "Networks": f.networks, "PKI": r, "Inside": inside(f.pool),
	})
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(p.file, b.Bytes()); err != nil {
		return nil, fmt.Errorf("these values don't make a configuration:\n%w", err)
	}
	return b.Bytes(), nil
}

// inside is the gateway's address in the tunnel: the last one that a device could
// have; none where addresses are few.
func inside(pool netip.Prefix) netip.Addr {
	if !pool.Addr().Is4() || pool.Bits() > 24 {
		return netip.Addr{}
	}
	return lastOf(pool).Prev()
}

// giveKey makes the key readable for the user who runs the gateway.
func (f *initFlags) giveKey(path string) error {
	name := f.owner
	if name == "" {
		if f.dir != "" || os.Getuid() != 0 {
			return nil
		}
		name = "gatewayd"
	}
	u, err := user.Lookup(name)
	if err != nil {
		if f.owner == "" {
			return nil
		}
		return fmt.Errorf("--owner: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("--owner %s: uid %q", name, u.Uid)
	}
	return os.Chown(path, uid, -1)
}

// textList is a flag that may be repeated.
type textList[T any] struct{ list *[]T }

type textValue interface{ UnmarshalText([]byte) error }

func (l textList[T]) String() string { return "" }
func (l textList[T]) Type() string   { return "value" }
func (l textList[T]) Set(text string) error {
	var v T
	if err := any(&v).(textValue).UnmarshalText([]byte(text)); err != nil {
		return err
	}
	*l.list = append(*l.list, v)
	return nil
}
