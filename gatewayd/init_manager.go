package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// initManagerFlags are the flags of init manager; empty ones are found out from
// the section enrollment, where the file has one.
type initManagerFlags struct {
	dir                  string
	url                  string
	listen, adminListen  netip.AddrPort
	metrics              string
	name                 string
	postgres             string
	certificate, certKey string
	gatewayCertificate   string
	gatewayKey           string
	roots, intermediates []string
	instance             string
	admin                string
	key                  string
	passphraseFile       string
	owner                string
	quarantineNew        bool

	known *config.Config
	// adminFile has the certificate of the administrator that known names.
	adminFile string
	// user who runs the server where no other is named.
	user string
}

// managerUser runs the role by itself; with enrollment it is enrollmentUser.
const managerUser = "gatewayd-manager"

func (g *global) initManagerCommand() *cobra.Command {
	f := &initManagerFlags{user: managerUser}
	c := &cobra.Command{
		Use:   "manager",
		Short: "Write a working configuration for a device management server",
		Long: `Write a working configuration for a device management server. In a file with the
section enrollment it finds database and CA itself, and the CA issues its
certificate. On another host, and once an enrollment server keeps the CA's record,
name its certificate (` + "`gatewayd certificate issue server`" + ` makes one), the devices'
root and the database. Nothing is overwritten.`,
		Example: `  gatewayd init manager --url https://dm.inside.example.com:8443/dm
  gatewayd init manager --url https://dm.inside.example.com:8443/dm \
      --postgres "host=db.inside.example.com dbname=enrollment user=gatewayd" \
      --certificate management.pem --certificate-key management.key \
      --root root.pem --intermediate issuing.pem --instance-oid 1.3.6.1.4.1.32473.1`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return adding(c, g, f.dir, f.write) },
	}
	f.flags(c)
	flags := c.Flags()
	flags.StringVar(&f.dir, "dir", "", "folder for everything (default: "+filepath.Dir(config.SystemFile)+" and the system's other folders)")
	flags.StringVar(&f.url, "url", "", "https URL by which devices reach device management, with its path (default: port 8443 of the enrollment server, /dm)")
	flags.TextVar(&f.listen, "listen", f.listen, "where the server listens for devices")
	flags.TextVar(&f.adminListen, "admin-listen", f.adminListen, "where it listens for administrators")
	flags.StringVar(&f.metrics, "metrics", f.metrics, "where it tells metrics, or off")
	flags.BoolVar(&f.quarantineNew, "quarantine", false, "hold devices that enroll in quarantine until they comply with mandatory policies")
	flags.StringVar(&f.postgres, "postgres", "", "connection string of the enrollment server's database (default: that of the configuration)")
	flags.StringVar(&f.certificate, "certificate", "", "the server's certificate, PEM (default: the CA issues one)")
	flags.StringVar(&f.certKey, "certificate-key", "", "its key, PEM")
	flags.StringVar(&f.gatewayCertificate, "gateway-certificate", "", "its certificate toward gateways, PEM (default: the CA issues one)")
	flags.StringVar(&f.gatewayKey, "gateway-certificate-key", "", "its key, PEM")
	flags.StringSliceVar(&f.roots, "root", nil, "root of devices' certificates, PEM (default: that of the CA)")
	flags.StringSliceVar(&f.intermediates, "intermediate", nil, "intermediate of devices' certificates, PEM (default: the CA)")
	flags.StringVar(&f.instance, "instance-oid", "", "OID of the installation (default: that of the CA)")
	flags.StringVar(&f.admin, "admin", "", "name of an administrator to make a certificate for (default: the one of the section client)")
	flags.StringVar(&f.key, "key", "", "kind of the keys: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072")
	flags.StringVar(&f.passphraseFile, "ca-passphrase-file", "", "file with the passphrase of the CA's keys")
	flags.StringVar(&f.owner, "owner", "", "user who runs the server and owns its key (default: "+managerUser+" where that user exists)")
	return c
}

// flags that `init manager` and `init manager,enrollment` have.
func (f *initManagerFlags) flags(c *cobra.Command) {
	d := config.Default().Manager
	f.listen, f.adminListen, f.metrics = d.Listen.AddrPort, d.Admin.Listen.AddrPort, d.Metrics.String()
	c.Flags().StringVar(&f.name, "name", d.Name, "name of this manager among those of one database")
}

// initBothCommand is that of a host with both roles.
func (g *global) initBothCommand() *cobra.Command {
	both := &initEnrollmentFlags{part: true}
	e := g.initEnrollmentWith(both)
	f := &initManagerFlags{user: enrollmentUser}
	e.Use, e.Aliases = "manager,enrollment", []string{"enrollment,manager"}
	e.Short = "Write a working configuration and a PKI for both servers in one process"
	e.Long = `Write a working configuration and a PKI for a device management and an enrollment
server in one process: their certificates and that of the first administrator, by
the CA that is there or by a new one. Nothing is overwritten.`
	e.Example = `  gatewayd init manager,enrollment --url https://enroll.example.com --gateway vpn.example.com \
      --management-url https://dm.inside.example.com:8443/dm`
	f.flags(e)
	flags := e.Flags()
	flags.StringVar(&f.url, "management-url", "", "https URL by which devices reach device management, with its path (default: port 8443 of the enrollment server, /dm)")
	flags.TextVar(&f.listen, "management-listen", f.listen, "where the server listens for device management")
	flags.TextVar(&f.adminListen, "management-admin-listen", f.adminListen, "where it listens for administrators of devices")
	flags.StringVar(&f.metrics, "management-metrics", f.metrics, "where device management tells metrics, or off")
	e.RunE = func(c *cobra.Command, _ []string) error {
		for name, to := range map[string]*string{"dir": &f.dir, "key": &f.key, "ca-passphrase-file": &f.passphraseFile, "owner": &f.owner} {
			*to = c.Flags().Lookup(name).Value.String()
		}
		return adding(c, g, f.dir, func(w io.Writer, s *staging) error {
			if err := both.write(w, s); err != nil {
				return err
			}
			fmt.Fprintln(w)
			return f.write(w, s)
		})
	}
	return e
}

// write into a staging, without the commit.
func (f *initManagerFlags) write(w io.Writer, s *staging) error {
	file, dir, state := s.final.file, s.pki, config.SystemManagerDir
	if f.dir != "" {
		state = "manager"
	}
	before, err := s.soFar()
	if err != nil {
		return err
	}
	if err := f.findOut(s, &dir, before); err != nil {
		return err
	}
	// The file is checked before anything is made.
	draft := pki.ManagerResult{Root: "root", Issuing: "issuing", InstanceOID: "1.3.6.1.4.1.32473.1", Server: "server", ServerKey: "key", Manager: "manager", ManagerKey: "key", Admin: f.admin, AdminKey: f.admin}
	if _, err := f.render(s, state, before, draft); err != nil {
		return err
	}
	if err := s.absent("management.pem", "management.key", "manager.pem", "manager.key"); err != nil {
		return err
	}
	result, err := f.issue(dir, s.dir)
	if err != nil {
		return err
	}
	text, err := f.render(s, state, before, result)
	if err != nil {
		return err
	}
	if err := ca.WriteFile(s.file(), text, 0o644, before != nil); err != nil {
		return err
	}
	if uid, err := ownerOf(f.owner, f.user, f.dir == ""); err != nil {
		return err
	} else if uid >= 0 {
		for _, key := range []string{result.ServerKey, result.ManagerKey} {
			if key == "" {
				continue
			}
			if err := os.Chown(key, uid, -1); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(w, "configuration      %s\n", file)
	fmt.Fprintf(w, "device management  %s\n", f.url)
	if result.Admin != "" {
		fmt.Fprintf(w, "administrator      %s, %s\n", f.admin, s.place(result.Admin))
	}
	named, roles := "", "manager"
	if file != config.SystemFile {
		named = " --config " + file
	}
	if f.known != nil && f.known.Has("enrollment") {
		roles = "manager,enrollment"
	}
	fmt.Fprintf(w, "\nNext:\n  gatewayd run %s%s\n", roles, named)
	if roles != "manager" {
		fmt.Fprintf(w, "  gatewayd enrollment request create --user bob --device phone-1%s\n", named)
	}
	return nil
}

// findOut what was not given, from the enrollment server's section of the same
// file.
func (f *initManagerFlags) findOut(s *staging, dir *string, before []byte) error {
	file := s.final.file
	if before != nil {
		cfg, err := config.Parse(file, before)
		if err != nil {
			return err
		}
		if cfg.Has("manager") {
			return hinted{fmt.Errorf("%s has a section manager already", file), "Nothing was changed."}
		}
		f.known = cfg
	}
	here := f.known != nil && f.known.Has("enrollment")
	if here {
		e := &f.known.Enrollment
		*dir = s.source(f.known.Path(e.CA.Dir))
		if f.known.Has("client") {
			f.adminFile = s.source(f.known.Path(f.known.Client.Enrollment.Certificate))
		}
		if f.passphraseFile == "" {
			f.passphraseFile = f.known.Path(e.CA.PassphraseFile)
		}
		if f.url == "" {
			f.url = "https://" + hostPort(e.Host(), f.listen.Port()) + "/dm"
		}
	}
	if !here && f.postgres == "" {
		return usage("--postgres: where is the enrollment server's database? %s has no section enrollment", file)
	}
	if f.url == "" {
		return usage("--url: how do devices reach this server?")
	}
	if (f.certificate == "") != (f.certKey == "") {
		return usage("--certificate and --certificate-key: one needs the other")
	}
	if (f.gatewayCertificate == "") != (f.gatewayKey == "") {
		return usage("--gateway-certificate and --gateway-certificate-key: one needs the other")
	}
	if !here && (f.certificate == "" || len(f.roots) == 0 || f.instance == "") {
		return usage("--certificate, --certificate-key, --root and --instance-oid: the CA is not here")
	}
	for _, name := range []*string{&f.certificate, &f.certKey, &f.gatewayCertificate, &f.gatewayKey} {
		if *name != "" {
			var err error
			if *name, err = filepath.Abs(*name); err != nil {
				return err
			}
		}
	}
	for _, list := range [][]string{f.roots, f.intermediates} {
		for i := range list {
			var err error
			if list[i], err = filepath.Abs(list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostPort of a URL.
func hostPort(host string, port uint16) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a, port).String()
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// issue what wasn't given.
func (f *initManagerFlags) issue(dir, configDir string) (r pki.ManagerResult, err error) {
	if f.certificate != "" && f.admin == "" && len(f.roots) > 0 && f.instance != "" {
		return pki.ManagerResult{Server: f.certificate, ServerKey: f.certKey, Manager: f.gatewayCertificate, ManagerKey: f.gatewayKey}, nil
	}
	at, err := url.Parse(f.url)
	if err != nil || at.Hostname() == "" {
		return r, usage("--url %q is no https URL", f.url)
	}
	o := pki.ManagerOptions{Dir: dir, ConfigDir: configDir, Name: f.name, Admin: f.admin, Key: ca.KeyAlgorithm(f.key)}
	o.DNSNames, o.Addresses = hosts(at.Hostname(), reachable(f.adminListen).Addr().String(), "localhost")
	if f.passphraseFile != "" {
		if o.Passphrase, err = firstLine(f.passphraseFile); err != nil {
			return r, err
		}
		defer clear(o.Passphrase)
	}
	if r, err = pki.SetupManager(time.Now(), o); err != nil {
		return r, hinted{fmt.Errorf("issue the server's certificate: %w", err),
			"Where an enrollment server keeps the CA's record: `gatewayd certificate issue server`, then --certificate, --certificate-key, --root, --intermediate and --instance-oid."}
	}
	return r, nil
}

//go:embed init_manager.yaml.tmpl
var initManagerTemplate string

// clientLine begins the section client, which may be there already.
var clientLine = regexp.MustCompile(`(?m)^client:[ \t]*\n`)

// render adds the sections to what is there, and checks it as `run manager`
// would.
func (f *initManagerFlags) render(s *staging, state string, before []byte, r pki.ManagerResult) ([]byte, error) {
	or := func(given []string, other string) []string {
		if len(given) == 0 && other != "" {
			return []string{other}
		}
		return given
	}
	instance := f.instance
	if instance == "" {
		instance = r.InstanceOID
	}
	text, client := bytes.Clone(before), f.client(r, s.named)
	if at := clientLine.FindIndex(text); at != nil && client != "" {
		text = append(append(bytes.Clone(text[:at[1]]), client...), text[at[1]:]...)
		client = ""
	} else if client != "" {
		client = "# What commands about devices talk to, and as whom.\nclient:\n" + client
	}
	b := bytes.NewBuffer(text)
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		b.WriteByte('\n')
	}
	t := template.Must(template.New("init").Funcs(template.FuncMap{"file": s.named, "quote": strconv.Quote}).Parse(initManagerTemplate))
	if err := t.Execute(b, map[string]any{
		"New": before == nil, "Listen": f.listen, "AdminListen": f.adminListen, "Metrics": f.metrics, "URL": f.url, "Name": f.name,
		"Postgres": f.postgres, "Runtime": f.dir != "", "SealKey": filepath.Join(state, "seal.key"), "PKI": r, "First": f.first(), "QuarantineNew": f.quarantineNew,
		"Roots": or(f.roots, r.Root), "Intermediates": or(f.intermediates, r.Issuing), "InstanceOID": instance,
	}); err != nil {
		return nil, err
	}
	b.WriteString(client)
	if _, err := config.Parse(s.final.file, b.Bytes()); err != nil {
		return nil, fmt.Errorf("these values don't make a configuration:\n%w", err)
	}
	return b.Bytes(), nil
}

// client is what belongs into the section of that name: the administrator's new
// certificate, or the one by which enrollment is administered.
func (f *initManagerFlags) client(r pki.ManagerResult, relative func(string) string) string {
	certificate, key, root := relative(r.Admin), relative(r.AdminKey), relative(r.Root)
	if r.Admin == "" {
		if f.known == nil || !f.known.Has("client") || f.known.Client.Enrollment.Certificate == "" {
			return ""
		}
		e := f.known.Client.Enrollment
		certificate, key = e.Certificate, e.Key
	}
	if r.Root == "" {
		root = f.roots[0]
	}
	return fmt.Sprintf("  manager:\n    server: https://%s\n    certificate: %q\n    key: %q\n    roots:\n      - %q\n",
		reachable(f.adminListen), certificate, key, root)
}

// first administrator, whose certificate is known here.
func (f *initManagerFlags) first() string {
	if f.admin != "" || f.adminFile == "" {
		return f.admin
	}
	text, err := os.ReadFile(f.adminFile)
	if err != nil {
		return ""
	}
	list, err := admit.ParseCertificates(text)
	if err != nil || len(list) == 0 {
		return ""
	}
	return list[0].Subject.CommonName
}
