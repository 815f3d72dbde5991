package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/gatewayd/command"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// profileHelp is what `pki device --help` tells about profiles.
const profileHelp = `
With --profile the device gets all that it needs to connect, ready to import:

  strongswan  NAME.swanctl: a folder for SWANCTL_DIR, or to copy into /etc/swanctl,
              swanctl.conf as conf.d/NAME.conf
  sswan       NAME.sswan for the strongSwan app on Android
  apple       NAME.mobileconfig for iPhone, iPad and Mac, signed with the
              gateway's certificate unless --unsigned is given
  windows     NAME.vpnv2.xml (VPNv2 ProfileXML), NAME.p12 and NAME.install.ps1
  android     NAME.sswan, and NAME.managed.json for the strongSwan app on managed
              devices. Android's own IKEv2 client can't import a profile.

Proposals, networks, DNS servers, the gateway's name and the section profile come
from the gateway's configuration (--config) where there is one; flags win. What a
client can't take is listed as notes. For the strongSwan app the default of --key
is rsa-3072, because it asks Android for RSA keys.

The key is encrypted (PKCS#12), but for strongswan, whose folder private holds it
plain. Without --password-file and --password-env a password is made and written
to NAME.password: send it to the device's user another way than the profile.`

// profileFlags of the command device.
type profileFlags struct {
	kind                   string
	gateways               []string
	remoteID, title        string
	networks, dns          []string
	domains, trusted       []string
	proxy, pac             string
	exceptions             []string
	connect                string
	deviceTunnel, unsigned bool
	mtu                    int
	qr                     string
	signCertificate        string
	signKey                string
}

func (f *profileFlags) add(c *cobra.Command, configDir string) {
	flags := c.Flags()
	flags.StringVar(&f.kind, "profile", "", "make a profile for a client: "+kinds(", "))
	flags.StringSliceVar(&f.gateways, "gateway", nil, "names or addresses that the device dials, the preferred one first")
	flags.StringVar(&f.remoteID, "remote-id", "", "identity of the gateway, if not its name")
	flags.StringVar(&f.title, "title", "", "name of the connection that users see")
	flags.StringSliceVar(&f.networks, "network", nil, "networks behind the gateway; 0.0.0.0/0 sends everything through the tunnel")
	flags.StringSliceVar(&f.dns, "dns", nil, "DNS servers behind the gateway")
	flags.StringSliceVar(&f.domains, "domain", nil, "domains that those servers know")
	flags.StringVar(&f.proxy, "proxy", "", "web proxy while connected, HOST:PORT")
	flags.StringVar(&f.pac, "proxy-pac", "", "URL of a proxy configuration script")
	flags.StringSliceVar(&f.exceptions, "proxy-exception", nil, "names and networks that are reached without the proxy")
	flags.StringVar(&f.connect, "connect", "", "when to connect: "+connects(", "))
	flags.StringSliceVar(&f.trusted, "trusted-network", nil, "DNS suffixes of networks that need no tunnel")
	flags.BoolVar(&f.deviceTunnel, "device-tunnel", false, "windows: connect before anyone logs in")
	flags.IntVar(&f.mtu, "mtu", 0, "MTU of the tunnel on the device")
	flags.StringVar(&f.qr, "qr", "", "https URL where you will put the profile (a folder ends with /): make a QR code of it")
	flags.StringVar(&f.signCertificate, "sign-certificate", filepath.Join(configDir, "gateway.pem"), "apple: certificate that signs the profile, then its issuers")
	flags.StringVar(&f.signKey, "sign-key", filepath.Join(configDir, "gateway.key"), "apple: its private key")
	flags.BoolVar(&f.unsigned, "unsigned", false, "apple: don't sign the profile")
	for name, values := range map[string][]string{"profile": strings.Fields(kinds(" ")), "connect": strings.Fields(connects(" "))} {
		// Only an unknown flag is an error.
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

func kinds(separator string) string {
	var names []string
	for _, k := range profile.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, separator)
}

func connects(separator string) string {
	var names []string
	for _, c := range profile.Connects {
		names = append(names, string(c))
	}
	return strings.Join(names, separator)
}

// check refuses flags that are without effect.
func (f *profileFlags) check(set *pflag.FlagSet) error {
	if f.kind == "" {
		for _, name := range []string{
			"gateway", "remote-id", "title", "network", "dns", "domain", "proxy", "proxy-pac", "proxy-exception", "connect",
			"trusted-network", "device-tunnel", "mtu", "qr", "sign-certificate", "sign-key", "unsigned",
		} {
			if set.Changed(name) {
				return command.Usagef("--%s is for --profile", name)
			}
		}
		return nil
	}
	if !slices.Contains(profile.Kinds, profile.Kind(f.kind)) {
		return command.Usagef("--profile %q is none of %s", f.kind, kinds(", "))
	}
	if set.Changed("format") {
		return command.Usagef("--format and --profile exclude each other")
	}
	for name, only := range map[string]profile.Kind{
		"device-tunnel": profile.Windows, "sign-certificate": profile.Apple, "sign-key": profile.Apple, "unsigned": profile.Apple,
	} {
		if set.Changed(name) && f.kind != string(only) {
			return command.Usagef("--%s is for --profile %s", name, only)
		}
	}
	return nil
}

// defaultKey: the strongSwan app asks Android for RSA keys, see package
// profile.
func (f *profileFlags) defaultKey() ca.KeyAlgorithm {
	switch profile.Kind(f.kind) {
	case profile.SSwan, profile.Android:
		return ca.RSA3072
	default:
		return ca.KeyAlgorithms[0]
	}
}

// settings of the profile: the gateway's configuration, then the flags.
func (s *state) settings(c *cobra.Command, f *profileFlags) (profile.Profile, error) {
	cfg, err := s.gatewayConfig(c)
	if err != nil {
		return profile.Profile{}, err
	}
	p := profile.Profile{
		Title: cfg.Profile.Title, Networks: cfg.Gateway.Static.Networks, DNS: cfg.Gateway.Static.DNS,
		Domains: cfg.Profile.Domains, TrustedNetworks: cfg.Profile.TrustedNetworks,
		Connect: profile.Connect(cfg.Profile.Connect), Proxy: profile.Proxy(cfg.Profile.Proxy), MTU: cfg.Profile.MTU,
		DeviceTunnel: f.deviceTunnel,
	}
	for _, proposal := range cfg.Gateway.IKE.Proposals {
		text, err := proposal.MarshalText()
		if err != nil {
			return p, err
		}
		p.IKE = append(p.IKE, string(text))
	}
	for _, proposal := range cfg.Gateway.ESP.Proposals {
		text, err := proposal.MarshalText()
		if err != nil {
			return p, err
		}
		p.ESP = append(p.ESP, string(text))
	}
	p.Gateways = f.gatewaysOf(cfg)
	if len(p.Gateways) == 0 {
		return p, command.Usagef("--gateway: what does the device dial? There is no configuration that says it")
	}
	return p, f.override(c.Flags(), &p)
}

// override the configuration by the flags that were given.
func (f *profileFlags) override(set *pflag.FlagSet, p *profile.Profile) error {
	if set.Changed("network") {
		p.Networks = nil
		for _, text := range f.networks {
			n, err := netip.ParsePrefix(text)
			if err != nil {
				return command.Usagef("--network %q is none", text)
			}
			if n.Bits() == 0 {
				p.Networks = nil
				break
			}
			p.Networks = append(p.Networks, n.Masked())
		}
	}
	if set.Changed("dns") {
		p.DNS = nil
		for _, text := range f.dns {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return command.Usagef("--dns %q is no address", text)
			}
			p.DNS = append(p.DNS, a)
		}
	}
	if set.Changed("proxy") || set.Changed("proxy-pac") {
		p.Proxy = profile.Proxy{Server: f.proxy, PAC: f.pac}
	}
	for name, list := range map[string]struct {
		to   *[]string
		from []string
	}{
		"domain": {&p.Domains, f.domains}, "trusted-network": {&p.TrustedNetworks, f.trusted},
		"proxy-exception": {&p.Proxy.Exceptions, f.exceptions},
	} {
		if set.Changed(name) {
			*list.to = list.from
		}
	}
	if set.Changed("title") {
		p.Title = f.title
	}
	if set.Changed("connect") {
		p.Connect = profile.Connect(f.connect)
	}
	if set.Changed("mtu") {
		p.MTU = f.mtu
	}
	return nil
}

// gatewaysOf the flags, or of the configuration. One gateway has the identity
// of the configuration, several have their own names.
func (f *profileFlags) gatewaysOf(cfg *config.Config) []profile.Gateway {
	addresses, id := f.gateways, f.remoteID
	if len(addresses) == 0 {
		addresses = cfg.Profile.Gateways
	}
	own := cfg.Gateway.Identity.ID
	if len(addresses) == 0 && own != "" {
		addresses = []string{own}
		if strings.Contains(own, "@") {
			addresses[0] = cfg.Gateway.External.Address.String()
		}
	}
	if id == "" && len(addresses) == 1 {
		id = own
	}
	var gateways []profile.Gateway
	for _, address := range addresses {
		gateways = append(gateways, profile.Gateway{Address: address, ID: id})
	}
	return gateways
}

// gatewayConfig is what --config names, a flag of the program. Without the
// flag a file that isn't there means the defaults.
func (s *state) gatewayConfig(c *cobra.Command) (*config.Config, error) {
	name, given := s.config, false
	if flag := c.Flag("config"); flag != nil {
		name, given = flag.Value.String(), flag.Changed
	}
	if name == "" {
		return config.Default(), nil
	}
	cfg, err := config.Load(name)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return config.Default(), nil
	}
	return cfg, err
}

// signer of the profile, or nil.
func (f *profileFlags) signer() (*profile.Signer, error) {
	if profile.Kind(f.kind) != profile.Apple || f.unsigned {
		return nil, nil
	}
	hint := func(err error) error {
		return fmt.Errorf("%w; name what signs the profile with --sign-certificate and --sign-key, or give --unsigned", err)
	}
	data, err := os.ReadFile(f.signCertificate)
	if err != nil {
		return nil, hint(err)
	}
	s := &profile.Signer{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.signCertificate, err)
		}
		s.Chain = append(s.Chain, certificate)
	}
	if data, err = os.ReadFile(f.signKey); err != nil {
		return nil, hint(err)
	}
	defer clear(data)
	if s.Key, err = config.ParsePrivateKey(data); err != nil {
		return nil, fmt.Errorf("%s: %w", f.signKey, err)
	}
	return s, nil
}

// plan is a profile that was checked as far as that is possible before the
// certificate is issued.
type plan struct {
	kind  profile.Kind
	p     profile.Profile
	o     profile.Options
	out   string
	codes []code
	// passwordFile takes a password that was made; empty if it was given.
	passwordFile string
	force        bool
}

type code struct {
	name string
	profile.Code
}

func (s *state) planProfile(c *cobra.Command, name string, f deviceFlags, p profile.Profile) (*plan, error) {
	l := &plan{kind: profile.Kind(f.profile.kind), p: p, out: f.out, force: f.force}
	l.p.Device = strings.ToLower(name)
	if err := profile.Check(l.kind, l.p); err != nil {
		return nil, &command.UsageError{Err: err}
	}
	for _, file := range profile.Names(l.kind, l.p) {
		if f.profile.qr == "" {
			break
		}
		qr, err := profile.QR(l.kind, file, f.profile.qr)
		switch {
		case err == nil:
			l.codes = append(l.codes, code{strings.TrimSuffix(file, filepath.Ext(file)) + ".qr.png", qr})
		case len(l.codes) == 0: // what comes after a profile is for other ways
			return nil, &command.UsageError{Err: fmt.Errorf("--qr: %w", err)}
		}
	}
	if len(l.codes) > 1 && !strings.HasSuffix(f.profile.qr, "/") {
		return nil, command.Usagef("--qr: there are %d profiles: give the URL of their folder, with a / at its end", len(l.codes))
	}
	var err error
	if l.o.Signer, err = f.profile.signer(); err != nil {
		return nil, err
	}
	l.o.Rand = rand.Reader
	if profile.HasPassword(l.kind, l.p) {
		if f.password.Given() {
			password, err := f.password.Read(c, command.Twice)
			if err != nil {
				return nil, err
			}
			l.o.Password = string(password)
			clear(password)
		} else {
			// 26 characters of base32, 128 bits.
			l.o.Password = rand.Text()
			l.passwordFile = l.p.Device + ".password"
		}
	}
	// A CA has one of each; which, is known when it is open.
	l.p.Roots, l.p.Intermediates = make([]*x509.Certificate, 1), make([]*x509.Certificate, 1)
	if err := l.checkPassword(); err != nil || l.force {
		return l, err
	}
	return l, checkAbsent(l.paths()...)
}

// checkPassword before there is a certificate.
func (l *plan) checkPassword() error {
	least := profile.MinPassword
	if l.kind != profile.Windows {
		least = profile.MinLegacyPassword
	}
	if profile.HasPassword(l.kind, l.p) && len(l.o.Password) < least {
		return &command.UsageError{Err: fmt.Errorf("%w: want %d characters or more", profile.ErrPassword, least)}
	}
	return nil
}

// paths of all files.
func (l *plan) paths() []string {
	names := profile.Names(l.kind, l.p)
	for _, c := range l.codes {
		names = append(names, c.name)
	}
	if l.passwordFile != "" {
		names = append(names, l.passwordFile)
	}
	for i, name := range names {
		names[i] = filepath.Join(l.out, filepath.FromSlash(name))
	}
	return names
}

// write makes the files for an issued certificate.
func (l *plan) write(c *cobra.Command, a *ca.CA, certificate *x509.Certificate) (files, notes []string, err error) {
	l.p.Certificate, l.p.Instance = certificate, a.InstanceOID().String()
	l.p.Roots, l.p.Intermediates = []*x509.Certificate{a.Root()}, []*x509.Certificate{a.Issuing()}
	b, err := profile.Build(l.kind, l.p, l.o)
	if err != nil {
		return nil, nil, err
	}
	for _, qr := range l.codes {
		b.Files = append(b.Files, profile.File{Name: qr.name, Mode: 0o644, Data: qr.PNG()})
	}
	if l.passwordFile != "" {
		b.Files = append(b.Files, profile.File{Name: l.passwordFile, Mode: 0o600, Data: []byte(l.o.Password + "\n")})
		b.Notes = append(b.Notes, fmt.Sprintf("send the password in %s another way than the profile, then delete it", l.passwordFile))
	}
	for i, path := range l.paths() {
		file := b.Files[i]
		mode := fs.FileMode(0o755)
		if file.Mode == 0o600 && filepath.Dir(path) != filepath.Clean(l.out) {
			mode = 0o700
		}
		if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
			return nil, nil, err
		}
		if err := ca.WriteFile(path, file.Data, file.Mode, l.force); err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(c.ErrOrStderr(), "wrote %s\n", path)
		clear(file.Data)
	}
	return l.paths(), b.Notes, nil
}

// show what is for people's eyes only.
func (l *plan) show(c *cobra.Command, notes []string) {
	for _, note := range notes {
		fmt.Fprintf(c.ErrOrStderr(), "note: %s\n", note)
	}
	for _, qr := range l.codes {
		fmt.Fprintf(c.ErrOrStderr(), "%s\n%s", qr.Text, qr.Blocks())
	}
}
