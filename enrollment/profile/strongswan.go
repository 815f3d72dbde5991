package profile

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path"
	"strings"
)

const (
	anyIPv4 = "0.0.0.0/0"
	anyIPv6 = "::/0"
)

func checkStrongSwan(p *Profile) error {
	for _, kind := range []struct {
		proposals []string
		parse     func(string) (suite, bool)
	}{{p.IKE, parseIKE}, {p.ESP, parseESP}} {
		if len(known(kind.proposals, kind.parse)) == 0 {
			return fmt.Errorf("%w: %s", ErrNoProposal, strings.Join(kind.proposals, ", "))
		}
	}
	return nil
}

// swanctlDir holds the folders that swanctl expects below its own.
func (p *Profile) swanctlDir() string { return p.Device + ".swanctl" }

func namesStrongSwan(p *Profile) []string {
	dir := p.swanctlDir()
	names := []string{path.Join(dir, "swanctl.conf"), path.Join(dir, "x509", p.Device+".pem")}
	for i := range p.authorities() {
		names = append(names, path.Join(dir, "x509ca", fmt.Sprintf("%s-ca%d.pem", p.Device, i+1)))
	}
	if p.Key != nil {
		names = append(names, path.Join(dir, "private", p.Device+".pem"))
	}
	return names
}

// buildStrongSwan makes a folder to copy to /etc/swanctl, or to name in
// SWANCTL_DIR. swanctl reads the first certificate of a file only, hence a
// file each.
func buildStrongSwan(p *Profile, _ Options) (Bundle, error) {
	contents := [][]byte{[]byte(p.swanctl()), certificatePEM(p.Certificate)}
	for _, c := range p.authorities() {
		contents = append(contents, certificatePEM(c))
	}
	if p.Key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(p.Key)
		if err != nil {
			return Bundle{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		contents = append(contents, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		clear(der)
	}
	var b Bundle
	for i, name := range namesStrongSwan(p) {
		f := File{Name: name, Mode: 0o644, Data: contents[i]}
		if path.Base(path.Dir(name)) == "private" {
			f.Mode = 0o600
		}
		b.Files = append(b.Files, f)
	}
	if p.Key == nil {
		b.note("put the device's private key into %s", path.Join(p.swanctlDir(), "private"))
	}
	if len(p.Gateways) > 1 {
		b.note("strongSwan doesn't change to the next gateway by itself: a connection each, named %s and so on", p.connection(0))
	}
	switch p.Connect {
	case Always:
		b.note("set charon.retry_initiate_interval in strongswan.conf: without it a name that can't be resolved at the start is not tried again")
	case OnDemand:
		b.note("connecting on demand is by trap policies, which the device's IPsec backend has to support")
	case Manual:
	}
	if p.MTU != 0 {
		b.note("swanctl.conf has no MTU: set charon.plugins.kernel-netlink.mtu in strongswan.conf")
	}
	p.noteProxy(&b, "strongSwan")
	p.noteDomains(&b, "strongSwan")
	p.noteTrusted(&b, "strongSwan")
	return b, nil
}

// connection is the name of the one to the i-th gateway. Settings' names have
// no dots.
func (p *Profile) connection(i int) string {
	return numbered("roamgate-"+strings.NewReplacer(".", "-", "@", "-").Replace(p.Device), i)
}

// swanctl is swanctl.conf, a setting a line.
func (p *Profile) swanctl() string {
	var b strings.Builder
	depth := 0
	line := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if text == "}" {
			depth--
		}
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", depth), text)
		if strings.HasSuffix(text, "{") {
			depth++
		}
	}
	remote := joined(p.Networks, ",")
	if p.full() {
		remote = anyIPv4 + "," + anyIPv6
	}
	line("# %s, for the device %s", p.Title, p.Device)
	line("connections {")
	for i, g := range p.Gateways {
		line("%s {", p.connection(i))
		line("version = 2")
		line("remote_addrs = %s", g.Address)
		line("vips = 0.0.0.0,::")
		line("proposals = %s", strings.Join(known(p.IKE, parseIKE), ","))
		line("mobike = yes")
		line("fragmentation = yes")
		if p.Connect != Manual {
			line("keyingtries = 0")
			line("dpd_delay = 60s")
		}
		line("local {")
		line("auth = pubkey")
		line("certs = %s.pem", p.Device)
		line("}")
		line("remote {")
		line("auth = pubkey")
		line("id = %s", g.id())
		line("}")
		line("children {")
		line("%s {", p.connection(i))
		line("remote_ts = %s", remote)
		line("esp_proposals = %s", strings.Join(known(p.ESP, parseESP), ","))
		// Only the preferred gateway is dialled by itself: two tunnels to the
		// same networks are in each other's way.
		switch {
		case i > 0 || p.Connect == Manual:
		case p.Connect == OnDemand:
			line("start_action = trap")
			line("dpd_action = trap")
		default:
			line("start_action = start")
			line("dpd_action = restart")
			line("close_action = start")
		}
		line("}")
		line("}")
		line("}")
	}
	line("}")
	return b.String()
}

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
