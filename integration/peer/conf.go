package peer

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// connName is the name of the one connection in swanctl.conf.
const connName = "gw"

// FirstChild is the name of the Child SA that Connect brings up. Others bear
// "net2", "net3" and so on.
const FirstChild = "net"

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
	// Auth and RemoteAuth are how the client proves who it is and what it wants
	// from the gateway, such as "rsa/pss-sha256"; "pubkey" where empty.
	Auth, RemoteAuth string
	// VirtualIPs to ask for; an unspecified one asks for any of its family. Empty
	// asks for any of IPv4.
	VirtualIPs []netip.Addr
	// Remote networks to ask for.
	Remote []netip.Prefix
	// MoreChildren are the remote networks of further Child SAs.
	MoreChildren [][]netip.Prefix
	// KeepCertificate: don't send the own certificate.
	KeepCertificate bool
	// Fragmentation is "yes" (strongSwan's default: sends fragments to who knows
	// them), "no" or "force".
	Fragmentation string
	// NoMOBIKE: the client knows nothing of RFC 4555.
	NoMOBIKE bool
	// DPD: ask whether a silent gateway is alive; a Go duration of whole
	// seconds such as "5s".
	DPD string
	// Return: connect anew when the gateway is found dead.
	Return bool
	// RekeyIKE and RekeyChild are the client's own times in whole seconds; 0
	// leaves hours.
	RekeyIKE, RekeyChild time.Duration
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
	virtual := c.VirtualIPs
	if len(virtual) == 0 {
		virtual = []netip.Addr{netip.IPv4Unspecified()}
	}
	line(0, "connections {")
	line(1, "%s {", connName)
	line(2, "version = 2")
	setting(2, "local_addrs", addr(c.Local))
	setting(2, "remote_addrs", addr(c.Gateway))
	setting(2, "vips", list(virtual))
	setting(2, "proposals", strings.Join(c.IKEProposals, ","))
	setting(2, "dpd_delay", c.DPD)
	setting(2, "fragmentation", c.Fragmentation)
	setting(2, "rekey_time", seconds(c.RekeyIKE))
	if c.KeepCertificate {
		line(2, "send_cert = never")
	}
	if c.NoMOBIKE {
		line(2, "mobike = no")
	}
	line(2, "local {")
	line(3, "auth = %s", cmp.Or(c.Auth, "pubkey"))
	line(3, "certs = own.pem")
	setting(3, "id", c.LocalID)
	line(2, "}")
	line(2, "remote {")
	line(3, "auth = %s", cmp.Or(c.RemoteAuth, "pubkey"))
	line(3, "id = %s", cmp.Or(c.RemoteID, "%any"))
	line(2, "}")
	line(2, "children {")
	for i, remote := range append([][]netip.Prefix{c.Remote}, c.MoreChildren...) {
		name := FirstChild
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		line(3, "%s {", name)
		setting(4, "remote_ts", list(remote))
		setting(4, "esp_proposals", strings.Join(c.ESPProposals, ","))
		setting(4, "rekey_time", seconds(c.RekeyChild))
		if c.Return {
			line(4, "dpd_action = restart")
		}
		line(3, "}")
	}
	line(2, "}")
	line(1, "}")
	line(0, "}")
	return b.String()
}

func list[T fmt.Stringer](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.String()
	}
	return strings.Join(texts, ",")
}

func seconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// plugins in the order in which charon asks them.
var plugins = strings.Join([]string{
	"random", "nonce", "openssl", "aes", "sha1", "sha2", "hmac", "kdf", "gcm",
	"x509", "revocation", "constraints", "pubkey", "pkcs1", "pkcs8", "pkcs12", "pem",
	"kernel-netlink", "socket-default", "vici", "updown", "resolve",
}, " ")

// Settings of the daemon that aren't a connection's. The zero value is what
// strongSwan does on its own.
type Settings struct {
	// NoSignatureAuth: no RFC 7427, so that RSA signs with SHA-1 (AUTH method 1)
	// and ECDSA with the hash of its curve (9 to 11).
	NoSignatureAuth bool
	// IgnoreRedirects: no RFC 5685.
	IgnoreRedirects bool
	// FragmentSize is the size of IP packets with fragments of IKE messages; 1280
	// where 0.
	FragmentSize int
	// Quiet logs next to nothing, for measurements.
	Quiet bool
	// Detailed logs what is done about Child SAs, in the daemon and in the kernel's
	// place.
	Detailed bool
}

// level of log lines about a part of the daemon.
func (s Settings) level(usual int) int {
	if s.Quiet {
		return 0
	}
	return usual
}

// details are levels of Child SAs and of those who carry their packets.
func (s Settings) details() string {
	if !s.Detailed {
		return ""
	}
	return "      chd = 2\n      knl = 2\n"
}

func (s Settings) String() string {
	return fmt.Sprintf("  signature_authentication = %s\n  follow_redirects = %s\n  fragment_size = %d\n",
		yes(!s.NoSignatureAuth), yes(!s.IgnoreRedirects), cmp.Or(s.FragmentSize, 1280))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// daemonConf is a strongswan.conf: one setting a line, as its parser wants.
// With fewer than 16 threads kernel-libipsec leaves none to answer vici.
func (c *Charon) daemonConf(s Settings) string {
	load := plugins
	if !c.kernel {
		load = "kernel-libipsec " + plugins // before kernel-netlink, so that ESP is its
	}
	crowd := ""
	if c.crowd {
		crowd = "  dos_protection = no\n  ikesa_table_size = 16384\n  ikesa_table_segments = 16\n"
	}
	return `charon {
  load = ` + load + `
` + s.String() + crowd + `  threads = 16
  install_routes = yes
  install_virtual_ip = yes
  retransmit_tries = 3
  retransmit_timeout = 1.0
  filelog {
    file {
      path = ` + c.path("charon.log") + `
      default = ` + strconv.Itoa(s.level(1)) + `
      ike = ` + strconv.Itoa(s.level(2)) + `
      cfg = ` + strconv.Itoa(s.level(2)) + `
      enc = ` + strconv.Itoa(s.level(1)) + `
` + s.details() + `      flush_line = yes
    }
  }
  plugins {
    vici {
      socket = unix://` + c.socket() + `
    }
    openssl {
      fips_mode = 0
    }
    resolve {
      file = ` + c.path("resolv.conf") + `
    }
  }
}
`
}
