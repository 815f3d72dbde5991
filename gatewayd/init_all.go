package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// initAllFlags are the flags of init all, and of a first `run all`.
type initAllFlags struct {
	initFlags
	url        string
	quarantine bool
}

// contentFile beside the configuration is what gateways are told at the first
// start, before anybody changed it.
const contentFile = "gateways.yaml"

// onlyGateway is the name of the one gateway that init all makes.
const onlyGateway = "gateway-1"

func (g *global) initAllCommand() *cobra.Command {
	f := &initAllFlags{}
	c := &cobra.Command{
		Use:   "all",
		Short: "Write a working configuration and a PKI for all roles on this host",
		Long: `Write a working configuration and a PKI for all roles on this host: a gateway, and
the enrollment and device management servers that configure it. The interface of
the default route becomes the external one, the only other one with an address the
internal one; flags say otherwise. Nothing is overwritten.

It is for evaluation and small sites: whoever takes over this host has the CA. For
more, give each role a host: init gateway --managed, init manager,enrollment.`,
		Example: `  gatewayd init all
  gatewayd init all --external eth0 --internal eth1 --id vpn.example.com --url https://vpn.example.com
  gatewayd init all --dir ./lab --external gw-out --internal gw-in`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.run(c.OutOrStdout(), g, c.Flags().Changed("config")); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "\nNext:\n  gatewayd run all%s\n", f.named(g))
			return nil
		},
	}
	f.add(c)
	return c
}

func (f *initAllFlags) add(c *cobra.Command) {
	flags := c.Flags()
	f.pool = netip.MustParsePrefix("10.9.0.0/16")
	flags.StringVar(&f.dir, "dir", "", "folder for everything (default: "+filepath.Dir(config.SystemFile)+" and the system's other folders)")
	flags.StringVar(&f.external, "external", "", "interface toward the devices")
	flags.StringVar(&f.internal, "internal", "", "interface toward the networks behind the gateway")
	flags.TextVar(&f.address, "address", netip.Addr{}, "address of the external interface that devices dial")
	flags.StringVar(&f.id, "id", "", "name of the gateway that devices know it by (default: its address)")
	flags.StringVar(&f.url, "url", "", "https URL by which devices and users reach enrollment (default: the address)")
	flags.TextVar(&f.pool, "pool", f.pool, "network of virtual addresses")
	flags.Var(textList[netip.Addr]{&f.dns}, "dns", "DNS server for the devices, may be repeated")
	flags.Var(textList[netip.Prefix]{&f.networks}, "network", "network that devices may reach, may be repeated (default: those of the internal interface)")
	flags.BoolVar(&f.quarantine, "quarantine", false, "hold devices that enroll in quarantine until they comply with mandatory policies")
	flags.StringVar(&f.key, "key", "", "kind of the keys: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072")
}

// file of the configuration.
func (f *initAllFlags) file(g *global) string {
	if f.dir == "" {
		return g.config
	}
	return filepath.Join(f.dir, "gatewayd.yaml")
}

func (f *initAllFlags) named(g *global) string {
	if file := f.file(g); file != config.SystemFile {
		return " --config " + file
	}
	return ""
}

func (f *initAllFlags) run(w io.Writer, g *global, changed bool) error {
	p, err := f.paths(g, changed)
	if err != nil {
		return err
	}
	return staged(w, p, func(s *staging) error {
		if err := s.fresh(); err != nil {
			return err
		}
		if err := f.findOut(); err != nil {
			return err
		}
		inner, err := addressOf(f.internal)
		if err != nil {
			return err
		}
		return f.write(w, g, s, inner)
	})
}

// write everything; inner is the address of the internal interface.
func (f *initAllFlags) write(w io.Writer, g *global, s *staging, inner netip.Addr) error {
	p := s.final
	// The manager is reached through the tunnel, by the address inside.
	if !slices.ContainsFunc(f.networks, func(n netip.Prefix) bool { return n.Contains(inner) }) {
		f.networks = append(f.networks, netip.PrefixFrom(inner, inner.BitLen()))
	}
	if f.url == "" {
		f.url = "https://" + f.address.String()
	}

	options := pki.SetupOptions{Dir: s.pki, ConfigDir: s.dir, Key: ca.KeyAlgorithm(f.key), Addresses: []netip.Addr{f.address}}
	if a, err := netip.ParseAddr(f.id); err != nil {
		options.DNSNames = []string{f.id}
	} else if a != f.address {
		options.Addresses = append(options.Addresses, a)
	}
	managed := &initManagedFlags{
		initFlags: f.initFlags, name: onlyGateway, host: onlyGateway, tunnel: inside(f.pool),
		listen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), managementPort),
		root:   "root", certificate: "gateway", own: "key", intermediates: []string{"issuing"}, oid: "2.25.1",
	}
	if _, err := managed.renderManaged(p); err != nil { // before anything is made
		return err
	}
	made, err := pki.Setup(time.Now(), options)
	if err != nil {
		return fmt.Errorf("make a PKI: %w", err)
	}
	managed.root, managed.certificate, managed.own = s.named(made.Root), s.named(made.Certificate), s.named(made.Key)
	managed.intermediates, managed.oid = []string{s.named(made.Issuing)}, made.InstanceOID
	text, err := managed.renderManaged(p)
	if err != nil {
		return err
	}
	if _, err := managed.makeKey(s.dir); err != nil {
		return err
	}
	if err := f.giveKey(made.Key); err != nil {
		return err
	}
	content, err := f.content(inner)
	if err != nil {
		return err
	}
	if err := ca.WriteFile(filepath.Join(s.dir, contentFile), content, 0o644, false); err != nil {
		return err
	}
	// The other roles add their sections.
	if err := ca.WriteFile(s.file(), text, 0o644, false); err != nil {
		return err
	}
	if err := f.addServers(g, s, inner, managed); err != nil {
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	fmt.Fprintf(w, "configuration  %s\n", p.file)
	fmt.Fprintf(w, "CA             %s; its keys have no passphrase: keep it where only root can read it\n", p.pki)
	fmt.Fprintf(w, "external       %s, %s\n", f.external, f.address)
	fmt.Fprintf(w, "internal       %s, %s\n", f.internal, inner)
	fmt.Fprintf(w, "devices reach  %v\n", f.networks)
	return nil
}

// addServers adds the sections of enrollment and device management.
func (f *initAllFlags) addServers(g *global, s *staging, inner netip.Addr, managed *initManagedFlags) error {
	d := config.Default()
	e := &initEnrollmentFlags{
		dir: f.dir, url: f.url, listen: d.Enrollment.Listen.AddrPort, adminListen: loopback(d.Enrollment.Admin.Listen.Port()),
		metrics: d.Enrollment.Metrics.String(), gateway: f.address.String(), gatewayID: f.id, networks: f.networks, dns: f.dns, key: f.key, part: true,
	}
	if managed.tunnel.IsValid() {
		// Alerts come from there.
		e.networks = append(slices.Clone(e.networks), netip.PrefixFrom(managed.tunnel, managed.tunnel.BitLen()))
	}
	if err := e.write(io.Discard, s); err != nil {
		return err
	}
	m := &initManagerFlags{
		dir: f.dir, user: enrollmentUser, name: d.Manager.Name, metrics: d.Manager.Metrics.String(), key: f.key,
		listen: netip.AddrPortFrom(inner, d.Manager.Listen.Port()), adminListen: loopback(d.Manager.Admin.Listen.Port()),
		url: "https://" + netip.AddrPortFrom(inner, d.Manager.Listen.Port()).String() + "/dm", quarantineNew: f.quarantine,
	}
	return m.write(io.Discard, s)
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// addressOf an interface, the first one of IPv4.
func addressOf(name string) (netip.Addr, error) {
	list, err := candidates()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, c := range list {
		if c.name == name {
			return c.addresses[0].Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address", name)
}

// content that gateways are told first.
func (f *initAllFlags) content(inner netip.Addr) ([]byte, error) {
	c := fleet.Content{
		Pools: []fleet.Pool{{Prefix: f.pool}},
		Groups: map[string]fleet.Group{
			"default": {},
			// Device management, and nothing else.
			"quarantine": {Closed: true, Rules: []string{fmt.Sprintf("allow %s tcp %d", inner, config.Default().Manager.Listen.Port())}},
		},
		Settings: map[string]any{"static.networks": f.networks},
	}
	if a := inside(f.pool); a.IsValid() {
		c.Exclude = []netip.Addr{a}
	}
	if len(f.dns) > 0 {
		c.Settings["static.dns"] = f.dns
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What gateways are told at the first start of `gatewayd run all`. Later changes:\n# `gatewayd gateway config export`, and import.\n")
	err := fleet.WriteContent(&b, c)
	return b.Bytes(), err
}
