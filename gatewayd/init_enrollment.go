package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// initEnrollmentFlags are the flags of init enrollment; empty ones are found out
// from the gateway's section, where the file has one.
type initEnrollmentFlags struct {
	dir                 string
	url                 string
	listen, adminListen netip.AddrPort
	metrics             string
	gateway, gatewayID  string
	networks            []netip.Prefix
	dns                 []netip.Addr
	admin               string
	key                 string
	passphraseFile      string
	owner               string

	// part of an init that says itself what comes next.
	part bool
}

// enrollmentUser runs the role where no other is named.
const enrollmentUser = "gatewayd-enroll"

func (g *global) initEnrollmentCommand() *cobra.Command {
	return g.initEnrollmentWith(new(initEnrollmentFlags))
}

func (g *global) initEnrollmentWith(f *initEnrollmentFlags) *cobra.Command {
	d := config.Default().Enrollment
	f.listen, f.adminListen = d.Listen.AddrPort, d.Admin.Listen.AddrPort
	c := &cobra.Command{
		Use:   "enrollment",
		Short: "Write a working configuration and a PKI for an enrollment server",
		Long: `Write a working configuration and a PKI for an enrollment server: its certificate
and that of the first administrator, by the CA that is there or by a new one.
A configuration that is there, such as that of a gateway on the same host, gets
the sections enrollment and client added. Nothing is overwritten.`,
		Example: `  gatewayd init enrollment --url https://enroll.example.com --gateway vpn.example.com
  gatewayd init enrollment --dir ./lab --url https://127.0.0.1:8443 --listen 127.0.0.1:8443 --gateway 10.1.0.1`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return adding(c, g, f.dir, f.write) },
	}
	flags := c.Flags()
	flags.StringVar(&f.dir, "dir", "", "folder for everything (default: "+filepath.Dir(config.SystemFile)+" and the system's other folders)")
	flags.StringVar(&f.url, "url", "", "https URL by which devices and users reach the server (default: the address of the gateway here)")
	flags.TextVar(&f.listen, "listen", f.listen, "where the server listens for devices")
	flags.TextVar(&f.adminListen, "admin-listen", f.adminListen, "where it listens for administrators")
	flags.StringVar(&f.metrics, "metrics", d.Metrics.String(), "where it tells metrics, or off")
	flags.StringVar(&f.gateway, "gateway", "", "name or address of the gateway that devices dial (default: the one of the configuration)")
	flags.StringVar(&f.gatewayID, "gateway-id", "", "IKE identity of the gateway, where it isn't what devices dial")
	flags.Var(textList[netip.Prefix]{&f.networks}, "network", "network that devices may reach, may be repeated (default: those of the gateway here; none: everything)")
	flags.Var(textList[netip.Addr]{&f.dns}, "dns", "DNS server for the devices, may be repeated")
	flags.StringVar(&f.admin, "admin", "", "name of the first administrator (default: who runs this)")
	flags.StringVar(&f.key, "key", "", "kind of the keys: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072")
	flags.StringVar(&f.passphraseFile, "ca-passphrase-file", "", "file with the passphrase of the CA's keys; the server reads it too")
	flags.StringVar(&f.owner, "owner", "", "user who runs the server and owns its keys (default: "+enrollmentUser+" where that user exists)")
	return c
}

// write into a staging, without the commit.
func (f *initEnrollmentFlags) write(w io.Writer, s *staging) error {
	file, state := s.final.file, config.SystemEnrollmentDir
	if f.dir != "" {
		state = "enrollment"
	}
	before, err := s.soFar()
	if err != nil {
		return err
	}
	if err := f.findOut(file, before); err != nil {
		return err
	}
	at, err := url.Parse(f.url)
	if err != nil || at.Hostname() == "" {
		return usage("--url %q is no https URL", f.url)
	}
	options := pki.EnrollmentOptions{Dir: s.pki, ConfigDir: s.dir, Admin: f.admin, Key: ca.KeyAlgorithm(f.key)}
	options.DNSNames, options.Addresses = hosts(at.Hostname(), reachable(f.adminListen).Addr().String(), "localhost")
	if f.passphraseFile != "" {
		if f.passphraseFile, err = filepath.Abs(f.passphraseFile); err != nil {
			return err
		}
		if options.Passphrase, err = firstLine(f.passphraseFile); err != nil {
			return err
		}
		defer clear(options.Passphrase)
	}
	// The file is checked before anything is made.
	draft := pki.EnrollmentResult{Dir: s.pki, Root: "root", Server: "server", ServerKey: "key", Admin: "admin", AdminKey: "key"}
	if _, err := f.render(s, state, before, draft); err != nil {
		return err
	}
	if err := s.absent("enrollment.pem", "enrollment.key", "admin.pem", "admin.key"); err != nil {
		return err
	}
	result, err := pki.SetupEnrollment(time.Now(), options)
	if err != nil {
		return fmt.Errorf("make a PKI: %w", err)
	}
	text, err := f.render(s, state, before, result)
	if err != nil {
		return err
	}
	if err := ca.WriteFile(s.file(), text, 0o644, before != nil); err != nil {
		return err
	}
	if err := f.give(result, f.dir == ""); err != nil {
		return err
	}
	fmt.Fprintf(w, "configuration  %s\n", file)
	made := "that was there"
	if result.Made {
		made = "new"
	}
	fmt.Fprintf(w, "CA             %s, %s\n", s.place(result.Dir), made)
	fmt.Fprintf(w, "devices        %s\n", f.url)
	fmt.Fprintf(w, "administrator  %s, %s\n", f.admin, s.place(result.Admin))
	if f.passphraseFile == "" {
		fmt.Fprintf(w, "\nThe CA's keys have no passphrase; keep %s where only the server can read it.\n", s.place(result.Dir))
	}
	if f.part {
		return nil
	}
	named := ""
	if file != config.SystemFile {
		named = " --config " + file
	}
	fmt.Fprintf(w, "\nNext:\n  gatewayd run enrollment%[1]s\n  gatewayd enrollment request create --user bob --device phone-1%[1]s\n", named)
	return nil
}

// findOut what was not given, from the gateway's section of the same file.
func (f *initEnrollmentFlags) findOut(file string, before []byte) error {
	var known *config.Config
	if before != nil {
		cfg, err := config.Parse(file, before)
		if err != nil {
			return err
		}
		if cfg.Has("enrollment") {
			return hinted{fmt.Errorf("%s has a section enrollment already", file), "Nothing was changed."}
		}
		if cfg.Has("gateway") {
			known = cfg
		}
	}
	if known != nil {
		gateway := &known.Gateway
		if f.gateway == "" {
			f.gateway, f.gatewayID = gateway.External.Address.String(), gateway.Identity.ID
		}
		if f.networks == nil {
			f.networks = gateway.Static.Networks
		}
		if f.dns == nil {
			f.dns = gateway.Static.DNS
		}
		if f.url == "" {
			f.url = "https://" + strings.TrimSuffix(netip.AddrPortFrom(gateway.External.Address, f.listen.Port()).String(), ":443")
		}
	}
	if f.gatewayID == f.gateway {
		f.gatewayID = ""
	}
	if f.gateway == "" {
		return usage("--gateway: what do devices dial? %s says nothing of a gateway", file)
	}
	if f.url == "" {
		return usage("--url: how do devices and users reach this server?")
	}
	if f.admin == "" {
		f.admin = "admin"
		if u, err := user.Current(); err == nil && u.Username != "root" {
			f.admin = u.Username
		}
	}
	return nil
}

//go:embed init_enrollment.yaml.tmpl
var initEnrollmentTemplate string

// reachable is where those of this host reach a listener.
func reachable(listen netip.AddrPort) netip.AddrPort {
	if a := listen.Addr(); !a.IsUnspecified() {
		return listen
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
}

// hosts are names and addresses of a certificate.
func hosts(list ...string) (names []string, addresses []netip.Addr) {
	for _, name := range list {
		if a, err := netip.ParseAddr(name); err != nil {
			names = append(names, name)
		} else if !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	return names, addresses
}

// render adds the sections to what is there, and checks it as `run enrollment`
// would.
func (f *initEnrollmentFlags) render(s *staging, state string, before []byte, r pki.EnrollmentResult) ([]byte, error) {
	t := template.Must(template.New("init").Funcs(template.FuncMap{"file": s.named, "quote": strconv.Quote}).Parse(initEnrollmentTemplate))
	b := bytes.NewBuffer(bytes.Clone(before))
	if before != nil && !bytes.HasSuffix(before, []byte("\n")) {
		b.WriteByte('\n')
	}
	err := t.Execute(b, map[string]any{
		"New": before == nil, "Listen": f.listen, "AdminListen": f.adminListen, "AdminAt": reachable(f.adminListen), "Metrics": f.metrics, "URL": f.url,
		"Database": filepath.Join(state, "enrollment.db"), "SealKey": filepath.Join(state, "seal.key"), "Passphrase": f.passphraseFile,
		"Gateway": f.gateway, "GatewayID": f.gatewayID, "Admin": f.admin, "Networks": f.networks, "DNS": f.dns, "PKI": r,
	})
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(s.final.file, b.Bytes()); err != nil {
		return nil, fmt.Errorf("these values don't make a configuration:\n%w", err)
	}
	return b.Bytes(), nil
}

// give the server's key and the CA to the user who runs the server.
func (f *initEnrollmentFlags) give(r pki.EnrollmentResult, system bool) error {
	uid, err := ownerOf(f.owner, enrollmentUser, system)
	if err != nil || uid < 0 {
		return err
	}
	if err := os.Chown(r.ServerKey, uid, -1); err != nil {
		return err
	}
	// It issues, and publishes the revocation list there.
	dir, err := openPath(r.Dir, 0)
	if err != nil {
		return err
	}
	defer dir.close()
	return giver{uid: uid, gid: -1, anybodys: true}.tree(dir)
}

// ownerOf keys: the user that is named, or the usual one if there is one and the
// system's folders are used; -1 for nobody else.
func ownerOf(named, usual string, system bool) (uid int, err error) {
	name := named
	if name == "" {
		if !system || os.Getuid() != 0 {
			return -1, nil
		}
		name = usual
	}
	u, err := user.Lookup(name)
	if err != nil {
		if named == "" {
			return -1, nil
		}
		return -1, fmt.Errorf("--owner: %w", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return -1, fmt.Errorf("--owner %s: uid %q", name, u.Uid)
	}
	return uid, nil
}
