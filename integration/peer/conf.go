package peer

import (
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Names of the one connection and its Child SA in swanctl.conf.
const (
	connName  = "gw"
	childName = "net"
)

// Files are credentials in PEM.
type Files struct {
	// CA holds the certificates of CAs to trust.
	CA []byte
	// Cert is the own certificate, which intermediates may follow that are
	// sent with it; Key its private key.
	Cert, Key []byte
}

// write splits what holds several certificates, because swanctl reads the
// first of a file only.
func (f Files) write(dir string) error {
	files := map[string][]byte{"private/own.pem": f.Key}
	for i, block := range pemBlocks(f.Cert) {
		name := "x509/own.pem"
		if i > 0 {
			name = fmt.Sprintf("x509ca/intermediate%d.pem", i)
		}
		files[name] = block
	}
	for i, block := range pemBlocks(f.CA) {
		files[fmt.Sprintf("x509ca/ca%d.pem", i)] = block
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func pemBlocks(text []byte) [][]byte {
	var blocks [][]byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return blocks
		}
		blocks = append(blocks, pem.EncodeToMemory(block))
		text = rest
	}
}

// Connection describes a client's way to a gateway. Empty fields leave
// strongSwan's own default.
type Connection struct {
	Files
	// Gateway's outer address; Local the client's.
	Gateway, Local netip.Addr
	// LocalID is sent as IDi; where empty, the certificate's subject is.
	LocalID string
	// RemoteID is sent as IDr and has to be the gateway's; where empty, no IDr
	// is sent, as Windows does.
	RemoteID string
	// IKEProposals and ESPProposals in strongSwan's words, such as
	// "aes128gcm16-prfsha256-x25519" and "aes128gcm16".
	IKEProposals, ESPProposals []string
	// VirtualIP to ask for; any where it is the zero Addr.
	VirtualIP netip.Addr
	// Remote networks to ask for.
	Remote []netip.Prefix
	// KeepCertificate: don't send the own certificate.
	KeepCertificate bool
	// DPD: ask whether a silent gateway is alive; a Go duration of whole
	// seconds such as "5s".
	DPD string
}

func (c Connection) conf() string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, args...))
	}
	setting := func(indent int, key, value string) {
		if value != "" {
			line(indent, "%s = %s", key, value)
		}
	}
	virtual, remote := "0.0.0.0", make([]string, 0, len(c.Remote))
	if c.VirtualIP.IsValid() {
		virtual = c.VirtualIP.String()
	}
	for _, p := range c.Remote {
		remote = append(remote, p.String())
	}
	remoteID := c.RemoteID
	if remoteID == "" {
		remoteID = "%any"
	}
	line(0, "connections {")
	line(1, "%s {", connName)
	line(2, "version = 2")
	setting(2, "local_addrs", addr(c.Local))
	setting(2, "remote_addrs", addr(c.Gateway))
	setting(2, "vips", virtual)
	setting(2, "proposals", strings.Join(c.IKEProposals, ","))
	setting(2, "dpd_delay", c.DPD)
	if c.KeepCertificate {
		line(2, "send_cert = never")
	}
	line(2, "local {")
	line(3, "auth = pubkey")
	line(3, "certs = own.pem")
	setting(3, "id", c.LocalID)
	line(2, "}")
	line(2, "remote {")
	line(3, "auth = pubkey")
	line(3, "id = %s", remoteID)
	line(2, "}")
	line(2, "children {")
	line(3, "%s {", childName)
	setting(4, "remote_ts", strings.Join(remote, ","))
	setting(4, "esp_proposals", strings.Join(c.ESPProposals, ","))
	line(3, "}")
	line(2, "}")
	line(1, "}")
	line(0, "}")
	return b.String()
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// plugins in the order in which charon asks them; kernel-libipsec stands
// before kernel-netlink so that ESP is its.
var plugins = strings.Join([]string{
	"random", "nonce", "openssl", "aes", "sha1", "sha2", "hmac", "kdf", "gcm",
	"x509", "revocation", "constraints", "pubkey", "pkcs1", "pkcs8", "pkcs12", "pem",
	"kernel-libipsec", "kernel-netlink", "socket-default", "vici", "updown",
}, " ")

// daemonConf is a strongswan.conf: one setting a line, as its parser wants.
// With fewer than 16 threads kernel-libipsec leaves none to answer vici.
func daemonConf(log, socket string) string {
	return `charon {
  load = ` + plugins + `
  threads = 16
  install_routes = yes
  install_virtual_ip = yes
  retransmit_tries = 3
  retransmit_timeout = 1.0
  filelog {
    file {
      path = ` + log + `
      default = 1
      ike = 2
      cfg = 2
      enc = 1
      flush_line = yes
    }
  }
  plugins {
    vici {
      socket = unix://` + socket + `
    }
    openssl {
      fips_mode = 0
    }
  }
}
`
}
