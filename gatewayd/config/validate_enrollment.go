package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/profile"
)

// Limits of lists.
const (
	maxInstances = 64
	maxGateways  = 8
)

func (v *validator) enrollment(e *Enrollment) {
	v.listener("enrollment.listen", e.Listen)
	v.webURL("enrollment.url", e.URL, "the https URL by which devices reach this server, such as https://enroll.example.com")
	v.credentials("enrollment.credentials", e.Credentials)
	v.listener("enrollment.admin.listen", e.Admin.Listen)
	v.credentials("enrollment.admin.credentials", e.Admin.Credentials)
	v.database("enrollment.database", &e.Database)
	v.required("enrollment.ca.dir", e.CA.Dir, "the folder of a CA, such as /var/lib/gatewayd/pki")
	v.pkcs11(&e.CA)
	v.required("enrollment.key_file", e.KeyFile, "a file for the key of the database's secrets")
	v.duration("enrollment.requests.valid", e.Requests.Valid, 5*time.Minute, time.Duration(e.Requests.MaxValid))
	v.duration("enrollment.requests.max_valid", e.Requests.MaxValid, 5*time.Minute, 90*24*time.Hour)
	v.between("enrollment.requests.guesses", e.Requests.Guesses, 1, 1_000_000_000)
	v.duration("enrollment.certificates.lifetime", e.Certificates.Lifetime, time.Hour, 825*24*time.Hour)
	v.duration("enrollment.certificates.renew_before", e.Certificates.RenewBefore, time.Minute, time.Duration(e.Certificates.Lifetime)*9/10)
	v.listenerLimits("enrollment.limits.", &e.Limits)
	v.device(&e.Device)
	v.instances(e)
	v.distinct([]namedListen{
		{"enrollment.listen", e.Listen}, {"enrollment.admin.listen", e.Admin.Listen},
		{"enrollment.metrics", e.Metrics}, {"enrollment.instance.listen", e.Instance.Listen},
	})
	if v.Has("gateway") && e.Metrics.IsValid() && e.Metrics == v.Metrics.Listen {
		v.say("enrollment.metrics", "got %v, which is metrics.listen, expected an address of its own", e.Metrics)
	}
}

func (v *validator) listener(key string, l Listen) {
	if !l.IsValid() || l.Port() == 0 {
		v.say(key, "not set, expected ADDRESS:PORT")
	}
}

type namedListen struct {
	key string
	at  Listen
}

// distinct: two listeners can't have one address.
func (v *validator) distinct(list []namedListen) {
	for i, l := range list {
		for _, before := range list[:i] {
			if l.at.IsValid() && l.at == before.at {
				v.say(l.key, "got %v, which is %s, expected an address of its own", l.at, before.key)
			}
		}
	}
}

// webURL of a server, without a path.
func (v *validator) webURL(key, text, what string) {
	if text == "" {
		v.say(key, "not set, expected %s", what)
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.Trim(u.Path, "/") != "" || !isHost(u.Hostname()) || len(text) > 255 {
		v.say(key, "got %q, expected %s", clip(text), what)
	}
}

// isHost: a domain name or an IP address.
func isHost(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil || isDomain(name) || name == "localhost"
}

func (v *validator) credentials(key string, list []Credential) {
	if len(list) == 0 {
		v.say(key, "not set, expected at least one certificate and key")
	}
	for i, c := range list {
		at := fmt.Sprintf("%s[%d].", key, i)
		v.required(at+"certificate", c.Certificate, "a PEM file: the certificate, then its intermediates")
		v.required(at+"key", c.Key, "a PEM file with the private key")
	}
}

// database: what the engine itself says comes when it is opened.
func (v *validator) database(key string, d *Database) {
	if d.SQLite != "" && d.Postgres != "" {
		v.say(key+".postgres", "got sqlite too, expected one of them")
	}
	if hasPassword(d.Postgres) {
		v.say(key+".postgres", "got a password, expected it in a file that only gatewayd can read, named by passfile=FILE (a line HOST:PORT:DATABASE:USER:PASSWORD)")
	}
	v.between(key+".connections", d.Connections, 2, 1000)
}

// hasPassword of a connection string in either form.
func hasPassword(dsn string) bool {
	if u, err := url.Parse(dsn); err == nil && u.User != nil {
		if _, set := u.User.Password(); set {
			return true
		}
		return u.Query().Has("password")
	}
	for _, word := range strings.Fields(dsn) {
		if key, _, _ := strings.Cut(word, "="); strings.EqualFold(key, "password") {
			return true
		}
	}
	return false
}

func (v *validator) pkcs11(c *EnrollmentCA) {
	const key = "enrollment.ca.pkcs11."
	if c.PKCS11.Module == "" {
		if c.PKCS11 != (PKCS11{}) {
			v.say(key+"module", "not set, expected the library of the token")
		}
		return
	}
	v.required(key+"token", c.PKCS11.Token, "the label of the token")
	v.required(key+"key", c.PKCS11.Key, "the label of the key on the token")
	v.required(key+"pin_file", c.PKCS11.PINFile, "a file with the PIN")
	if c.PassphraseFile != "" {
		v.say("enrollment.ca.passphrase_file", "got %q, expected none, because pkcs11.module is set", clip(c.PassphraseFile))
	}
}

func (v *validator) listenerLimits(key string, l *ListenerLimits) {
	v.between(key+"connections", l.Connections, 16, 1<<20)
	v.between(key+"connections_per_prefix", l.ConnectionsPerPrefix, 1, max(l.Connections, 1))
	v.between(key+"requests_per_second", l.RequestsPerSecond, 1, 1<<20)
	v.between(key+"burst", l.Burst, 1, 1<<20)
	if l.Body < 8<<10 || l.Body > 16<<20 {
		v.say(key+"body", "got %d, expected 8KiB to 16MiB", l.Body)
	}
	v.duration(key+"timeout", l.Timeout, time.Second, 5*time.Minute)
}

// device is checked as a profile would be, so that a device never gets one that
// no client takes.
func (v *validator) device(d *EnrollmentDevice) {
	const key = "enrollment.device."
	if len(d.Gateways) == 0 {
		v.say(key+"gateways", "not set, expected at least one gateway")
	}
	v.between(key+"gateways", len(d.Gateways), 0, maxGateways)
	for i, g := range d.Gateways {
		p := profile.Profile{
			Device: "device", Gateways: []profile.Gateway{{Address: g.Address, ID: g.ID}},
			IKE: []string{"aes128-sha256-ecp256"}, ESP: []string{"aes128-sha256"},
		}
		if err := profile.Check(profile.StrongSwan, p); err != nil {
			v.say(fmt.Sprintf("%sgateways[%d]", key, i), "%v", err)
		}
	}
	v.between(key+"networks", len(d.Networks), 0, maxNetworks)
	for i, n := range d.Networks {
		if n.IsValid() && n != n.Masked() {
			v.say(fmt.Sprintf("%snetworks[%d]", key, i), "got %v, expected %v", n, n.Masked())
		}
	}
	for i, a := range d.DNS {
		v.unicast(fmt.Sprintf("%sdns[%d]", key, i), a)
	}
	v.between(key+"ike", len(d.IKE), 1, maxProposals)
	v.between(key+"esp", len(d.ESP), 1, maxProposals)
	if d.Management != "" {
		if u, err := url.Parse(d.Management); err != nil || u.Scheme != "https" || u.Host == "" || len(d.Management) > 255 {
			v.say(key+"management", "got %q, expected the https URL of the device management server", clip(d.Management))
		}
	}
	if !serverID.MatchString(d.ManagementID) {
		v.say(key+"management_id", "got %q, expected manager.server_id of that server", clip(d.ManagementID))
	}
}

func (v *validator) instances(e *Enrollment) {
	v.between("enrollment.instances", len(e.Instances), 0, maxInstances)
	own := e.Instance
	if own.Listen.IsValid() || len(e.Instances) > 0 {
		v.required("enrollment.instance.certificate", own.Certificate, "a PEM file: `gatewayd pki peer` makes one")
		v.required("enrollment.instance.key", own.Key, "a PEM file with its private key")
	}
	seen := map[string]bool{}
	for i, other := range e.Instances {
		key := fmt.Sprintf("enrollment.instances[%d].", i)
		if !isHost(other.Name) {
			v.say(key+"name", "got %q, expected a DNS name in its certificate", clip(other.Name))
		}
		if seen[other.Name] {
			v.say(key+"name", "got %q, which is given already, expected another name", clip(other.Name))
		}
		seen[other.Name] = true
		v.webURL(key+"url", other.URL, "the https URL of its listener for instances, such as https://enroll2.example.com:8446")
		v.required(key+"root", other.Root, "a PEM file with the root of its CA")
		if other.InstanceOID.String() == "" {
			v.say(key+"instance_oid", "not set, expected %s", other.InstanceOID.expected())
		}
	}
}

func (v *validator) client(c *Client) {
	m := c.Manager
	manager := m.Server != "" || m.Certificate != "" || m.Key != "" || m.TokenFile != "" || len(m.Roots) > 0
	if e := c.Enrollment; !manager || e.Server != "" || e.Certificate != "" || e.Key != "" || len(e.Roots) > 0 {
		v.clientServer("client.enrollment.", e, "8445")
	}
	if !manager {
		return
	}
	if m.TokenFile == "" {
		v.clientServer("client.manager.", ClientServer{m.Server, m.Certificate, m.Key, m.Roots}, "8446")
		return
	}
	v.server("client.manager.", m.Server, m.Roots, "8446")
	if m.Certificate != "" || m.Key != "" {
		v.say("client.manager.token_file", "got %q beside a certificate, expected one of them", clip(m.TokenFile))
	}
}

func (v *validator) clientServer(key string, s ClientServer, port string) {
	v.server(key, s.Server, s.Roots, port)
	v.required(key+"certificate", s.Certificate, "a PEM file: `gatewayd pki admin` makes one")
	v.required(key+"key", s.Key, "a PEM file with its private key")
}

func (v *validator) server(key, address string, roots []string, port string) {
	v.webURL(key+"server", address, "the https URL of the listener for administrators, such as https://127.0.0.1:"+port)
	if len(roots) == 0 {
		v.say(key+"roots", "not set, expected at least one PEM file with the root of the server's certificate")
	}
}
