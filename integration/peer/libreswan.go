package peer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/roamgate/roamgate/integration/netns"
)

// Where the distribution's package puts libreswan's programs.
const (
	plutoPath    = "/usr/libexec/ipsec/pluto"
	whackPath    = "/usr/libexec/ipsec/whack"
	addconnPath  = "/usr/libexec/ipsec/addconn"
	updownPath   = "/usr/libexec/ipsec/_updown.xfrm"
	certutilPath = "/usr/bin/certutil"
	pk12utilPath = "/usr/bin/pk12util"
)

// ErrNoLibreswan says that libreswan or a part of it is not installed.
var ErrNoLibreswan = errors.New("libreswan is not complete on this host")

// LibreswanAvailable returns ErrNoLibreswan with what is not there, or nil.
func LibreswanAvailable() error {
	for _, path := range []string{plutoPath, whackPath, addconnPath, updownPath, certutilPath, pk12utilPath} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: %w", ErrNoLibreswan, err)
		}
	}
	return nil
}

// Pluto is a running libreswan daemon. Its ESP is always the kernel's.
type Pluto struct {
	ns      *netns.Namespace
	dir     string
	process *netns.Process
}

// LibreswanConnection describes a client's way to a gateway. Empty fields
// leave libreswan's own default.
type LibreswanConnection struct {
	Files
	// Local and Gateway are outer addresses.
	Local, Gateway netip.Addr
	// RemoteID has to be the gateway's.
	RemoteID string
	// Remote network to ask for.
	Remote netip.Prefix
	// IKE and ESP in libreswan's words, such as "aes_gcm128-sha2_256-dh31" and
	// "aes_gcm128".
	IKE, ESP string
	// PFS for Child SAs after the first.
	PFS bool
}

// password of the PKCS#12 file on its way into the NSS database.
const password = "roamgate"

// StartLibreswan starts pluto inside a namespace with one connection loaded.
// All its files lie in dir, which exists and is its own.
func StartLibreswan(ctx context.Context, ns *netns.Namespace, dir string, conn LibreswanConnection) (*Pluto, error) {
	if err := LibreswanAvailable(); err != nil {
		return nil, err
	}
	p := &Pluto{ns: ns, dir: dir}
	key, certs, roots, err := conn.parsed()
	if err != nil {
		return nil, err
	}
	nickname, err := p.database(ctx, key, certs, roots)
	if err != nil {
		return nil, fmt.Errorf("making the NSS database: %w", err)
	}
	authBy := "rsasig"
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		authBy = "ecdsa"
	}
	for name, text := range map[string]string{"ipsec.conf": conn.conf(nickname, authBy), "ipsec.secrets": ""} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	out, err := os.Create(p.path("pluto.log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(plutoPath, "--nofork", "--stderrlog", "--no-dnssec",
		"--config", p.path("ipsec.conf"), "--secretsfile", p.path("ipsec.secrets"),
		"--nssdir", p.path("nss"), "--ipsecdir", p.dir, "--rundir", p.dir)
	cmd.Stdout, cmd.Stderr = out, out
	if p.process, err = ns.Start(cmd); err != nil {
		return nil, err
	}
	if err := p.load(ctx); err != nil {
		p.process.Kill()
		return nil, fmt.Errorf("starting pluto: %w\n%s", err, p.LogTail(30))
	}
	return p, nil
}

// database makes an NSS database with the client's certificate, key and CAs,
// and returns the nickname of the certificate.
func (p *Pluto) database(ctx context.Context, key any, certs, roots []*x509.Certificate) (nickname string, err error) {
	// The modern form needs a newer NSS than some have.
	bundle, err := pkcs12.LegacyDES.Encode(key, certs[0], certs[1:], password)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(p.path("own.p12"), bundle, 0o600); err != nil {
		return "", err
	}
	db := "sql:" + p.path("nss")
	if err := os.Mkdir(p.path("nss"), 0o700); err != nil {
		return "", err
	}
	commands := [][]string{
		{certutilPath, "-N", "-d", db, "--empty-password"},
		{pk12utilPath, "-i", p.path("own.p12"), "-d", db, "-W", password, "-K", ""},
	}
	for i, root := range roots {
		name := fmt.Sprintf("ca%d", i)
		if err := os.WriteFile(p.path(name+".crt"), root.Raw, 0o600); err != nil {
			return "", err
		}
		commands = append(commands, []string{certutilPath, "-A", "-d", db, "-n", name, "-t", "CT,,", "-i", p.path(name + ".crt")})
	}
	commands = append(commands, []string{certutilPath, "-L", "-d", db})
	var listed []byte
	for _, c := range commands {
		if listed, err = p.ns.Run(ctx, exec.Command(c[0], c[1:]...)); err != nil {
			return "", err
		}
	}
	// A line is the nickname and the trust; "u" says that the key is there.
	for line := range strings.Lines(string(listed)) {
		fields := strings.Fields(line)
		if n := len(fields); n > 1 && strings.Contains(fields[n-1], "u") && strings.Count(fields[n-1], ",") == 2 {
			return strings.Join(fields[:n-1], " "), nil
		}
	}
	return "", fmt.Errorf("no certificate with a key:\n%s", listed)
}

// parsed has the own certificate before its intermediates.
func (f Files) parsed() (key any, certs, roots []*x509.Certificate, err error) {
	block, _ := pem.Decode(f.Key)
	if block == nil {
		return nil, nil, nil, errors.New("no key in PEM")
	}
	if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		return nil, nil, nil, err
	}
	for _, part := range []struct {
		text []byte
		to   *[]*x509.Certificate
	}{{f.Cert, &certs}, {f.CA, &roots}} {
		var der []byte
		for _, b := range pemBlocks(part.text) {
			block, _ := pem.Decode(b)
			der = append(der, block.Bytes...)
		}
		if *part.to, err = x509.ParseCertificates(der); err != nil {
			return nil, nil, nil, err
		}
	}
	if len(certs) == 0 {
		return nil, nil, nil, errors.New("no certificate in PEM")
	}
	return key, certs, roots, nil
}

func (c LibreswanConnection) conf(nickname, authBy string) string {
	var b bytes.Buffer
	b.WriteString("config setup\n\nconn " + connName + "\n")
	pfs := "no"
	if c.PFS {
		pfs = "yes"
	}
	for _, setting := range [][2]string{
		{"ikev2", "insist"}, {"auto", "ignore"}, {"authby", authBy},
		{"left", c.Local.String()}, {"leftcert", `"` + nickname + `"`}, {"leftid", "%fromcert"},
		{"leftsendcert", "always"}, {"leftsubnet", "0.0.0.0/0"}, {"leftmodecfgclient", "yes"},
		{"right", c.Gateway.String()}, {"rightid", "@" + c.RemoteID}, {"rightsubnet", c.Remote.String()},
		// By itself it runs "ipsec", which may be strongSwan's.
		{"leftupdown", updownPath},
		{"narrowing", "yes"}, {"mobike", "yes"}, {"pfs", pfs},
		{"ike", c.IKE}, {"esp", c.ESP},
	} {
		if setting[1] != "" {
			fmt.Fprintf(&b, "\t%s=%s\n", setting[0], setting[1])
		}
	}
	return b.String()
}

// load waits until pluto listens and gives it the connection.
func (p *Pluto) load(ctx context.Context) error {
	for {
		_, err := p.whack(ctx, "--listen")
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-p.process.Done():
			return fmt.Errorf("it ended: %w", p.process.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	cmd := exec.Command(addconnPath, "--config", p.path("ipsec.conf"), "--ctlsocket", p.path("pluto.ctl"), connName)
	_, err := p.ns.Run(ctx, cmd)
	return err
}

func (p *Pluto) whack(ctx context.Context, args ...string) (string, error) {
	out, err := p.ns.Run(ctx, exec.Command(whackPath, append([]string{"--rundir", p.dir}, args...)...))
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return string(out), err
}

func (p *Pluto) path(name string) string { return filepath.Join(p.dir, name) }

// Namespace in which the daemon runs.
func (p *Pluto) Namespace() *netns.Namespace { return p.ns }

// Connect brings the connection up, within patience.
func (p *Pluto) Connect(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := p.whack(ctx, "--initiate", "--name", connName)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.LogTail(25))
	}
	// Its exit status tells little.
	sas, err := p.SAs(ctx)
	if err == nil && !slices.ContainsFunc(sas, func(sa PlutoSA) bool { return sa.Child }) {
		err = fmt.Errorf("no Child SA: %s", said)
	}
	return err
}

// RekeyChild and RekeyIKE rekey the newest SA of their kind and return when it
// is done.
func (p *Pluto) RekeyChild(ctx context.Context) error {
	_, err := p.whack(ctx, "--rekey-ipsec", "--name", connName)
	return err
}

// RekeyIKE: see RekeyChild.
func (p *Pluto) RekeyIKE(ctx context.Context) error {
	_, err := p.whack(ctx, "--rekey-ike", "--name", connName)
	return err
}

// Disconnect deletes the SAs, telling the gateway.
func (p *Pluto) Disconnect(ctx context.Context) error {
	_, err := p.whack(ctx, "--terminate", "--name", connName)
	return err
}

// PlutoSA is an SA as pluto's list of states has it.
type PlutoSA struct {
	// Number is never used again.
	Number int
	// Child: a Child SA, otherwise an IKE SA.
	Child bool
}

var stateLine = regexp.MustCompile(`#(\d+): "` + connName + `".* STATE_V2_ESTABLISHED_(IKE|CHILD)_SA`)

// SAs lists the established ones.
func (p *Pluto) SAs(ctx context.Context) ([]PlutoSA, error) {
	out, err := p.whack(ctx, "--showstates")
	if err != nil {
		return nil, err
	}
	return plutoSAs(out), nil
}

func plutoSAs(states string) []PlutoSA {
	var sas []PlutoSA
	for _, m := range stateLine.FindAllStringSubmatch(states, -1) {
		if number, err := strconv.Atoi(m[1]); err == nil {
			sas = append(sas, PlutoSA{Number: number, Child: m[2] == "CHILD"})
		}
	}
	return sas
}

var leaseWord = regexp.MustCompile(`lease=([0-9a-fA-F.:]+)`)

// VirtualIP is the address that the gateway assigned.
func (p *Pluto) VirtualIP(ctx context.Context) (netip.Addr, error) {
	out, err := p.whack(ctx, "--trafficstatus")
	if err != nil {
		return netip.Addr{}, err
	}
	m := leaseWord.FindStringSubmatch(out)
	if m == nil {
		return netip.Addr{}, fmt.Errorf("pluto has no lease: %q", out)
	}
	return netip.ParseAddr(m[1])
}

// Vanish ends the daemon without a word to the gateway.
func (p *Pluto) Vanish() { p.process.Kill() }

// LogTail is the last lines of the log.
func (p *Pluto) LogTail(lines int) string {
	text, err := os.ReadFile(p.path("pluto.log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
