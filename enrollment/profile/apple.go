package profile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// Payload types of Apple's configuration profiles.
const (
	payloadVPN          = "com.apple.vpn.managed"
	payloadIdentity     = "com.apple.security.pkcs12"
	payloadRoot         = "com.apple.security.root"
	payloadIntermediate = "com.apple.security.pkcs1"
)

// appleMTU is the largest that the IKEv2 dictionary takes.
const appleMTU = 1400

// appleCan is for messages.
const appleCan = "AES-128 and 256 in CBC or GCM, ChaCha20-Poly1305, SHA-2, groups 14 to 16, 19 to 21 and 31; " +
	"the PRF is of the same hash as the integrity algorithm"

func checkApple(p *Profile) error {
	if err := p.needKey("an Apple device"); err != nil {
		return err
	}
	if _, err := appleKeyType(p.Key.Public()); err != nil {
		return err
	}
	if _, _, err := first(p.IKE, parseIKE, appleSuite, appleCan); err != nil {
		return err
	}
	_, _, err := first(p.ESP, parseESP, appleSuite, appleCan)
	return err
}

// appleKeyType is the CertificateType of a key.
func appleKeyType(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return "RSA", nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return "ECDSA256", nil
		case elliptic.P384():
			return "ECDSA384", nil
		case elliptic.P521():
			return "ECDSA521", nil
		}
	}
	return "", fmt.Errorf("%w: Apple has RSA and ECDSA, got %T", ErrKey, key)
}

// appleSuite is a security association's dictionary. With an AEAD the
// IntegrityAlgorithm of an IKE SA is the hash of its PRF.
func appleSuite(s suite) (dict, bool) {
	var d dict
	switch {
	case s.mode == chacha:
		d = append(d, entry{"EncryptionAlgorithm", "ChaCha20Poly1305"})
	case s.bits == 192:
		return nil, false
	case s.mode == gcm:
		d = append(d, entry{"EncryptionAlgorithm", fmt.Sprintf("AES-%d-GCM", s.bits)})
	default:
		d = append(d, entry{"EncryptionAlgorithm", fmt.Sprintf("AES-%d", s.bits)})
	}
	if s.integ != 0 && s.prf != 0 && s.prf != s.integ {
		return nil, false
	}
	if hash := max(s.integ, s.prf); hash != 0 {
		d = append(d, entry{"IntegrityAlgorithm", fmt.Sprintf("SHA2-%d", hash)})
	}
	if s.group != 0 {
		d = append(d, entry{"DiffieHellmanGroup", s.group})
	}
	return d, true
}

func namesApple(p *Profile) []string { return []string{p.Device + ".mobileconfig"} }

func buildApple(p *Profile, o Options) (Bundle, error) {
	var b Bundle
	p12, err := p.container(o, true)
	if err != nil {
		return b, err
	}
	vpns, err := p.appleVPNs(&b)
	if err != nil {
		return b, err
	}
	payloads := append(vpns, p.payload(payloadIdentity, "identity", p.Title+" identity", dict{
		{"PayloadCertificateFileName", p.Device + ".p12"},
		{"PayloadContent", p12},
	}))
	certificates := func(kind, part string, list []*x509.Certificate) {
		for i, c := range list {
			payloads = append(payloads, p.payload(kind, numbered(part, i), c.Subject.CommonName, dict{
				{"PayloadCertificateFileName", numbered(part, i) + ".cer"},
				{"PayloadContent", c.Raw},
			}))
		}
	}
	certificates(payloadIntermediate, "intermediate", p.Intermediates)
	certificates(payloadRoot, "root", p.Roots)
	data := dict{
		{"PayloadContent", payloads},
		{"PayloadDescription", "VPN for " + p.Device},
		{"PayloadDisplayName", p.Title},
		{"PayloadIdentifier", p.identifier("")},
		{"PayloadRemovalDisallowed", false},
		{"PayloadScope", "System"},
		{"PayloadType", "Configuration"},
		{"PayloadUUID", p.uuid("apple")},
		{"PayloadVersion", 1},
	}.plist()
	if o.Signer == nil {
		b.note("the profile is not signed: whoever delivers it could change it")
	} else if data, err = o.Signer.sign(data); err != nil {
		return b, err
	}
	b.Files = []File{{namesApple(p)[0], 0o600, data}}
	p.appleNotes(&b)
	return b, nil
}

func (p *Profile) appleNotes(b *Bundle) {
	if len(p.Gateways) > 1 {
		b.note("Apple devices don't change to the next gateway by themselves: a connection each")
	}
	if !p.full() {
		b.note("an Apple profile lists no networks: the gateway tells them when the device connects")
	}
	if len(p.Proxy.Exceptions) > 0 {
		b.note("an Apple profile has no proxy exceptions: use a proxy script")
	}
	if p.MTU > appleMTU {
		b.note("an Apple profile has an MTU of at most %d: %d was lowered", appleMTU, p.MTU)
	}
	if len(p.Domains) > 0 && len(p.DNS) == 0 {
		b.note("without DNS servers the domains decide about connecting only")
	}
}

// identifier in reverse-DNS style; Apple replaces a profile by one of the same.
func (p *Profile) identifier(part string) string {
	id := "roamgate." + p.uuid("apple")
	if part != "" {
		id += "." + part
	}
	return id
}

// payload adds what all have in common.
func (p *Profile) payload(kind, part, title string, d dict) dict {
	return append(d, dict{
		{"PayloadDisplayName", title},
		{"PayloadIdentifier", p.identifier(part)},
		{"PayloadType", kind},
		{"PayloadUUID", p.uuid("apple " + part)},
		{"PayloadVersion", 1},
	}...)
}

// appleVPNs has a payload for each gateway; only that of the first connects by
// itself.
func (p *Profile) appleVPNs(b *Bundle) ([]dict, error) {
	ike, _, err := first(p.IKE, parseIKE, appleSuite, appleCan)
	if err != nil {
		return nil, err
	}
	child, esp, err := first(p.ESP, parseESP, appleSuite, appleCan)
	if err != nil {
		return nil, err
	}
	keyType, err := appleKeyType(p.Key.Public())
	if err != nil {
		return nil, err
	}
	var payloads []dict
	for i, g := range p.Gateways {
		d := dict{
			{"AuthenticationMethod", "Certificate"},
			{"CertificateType", keyType},
			{"ChildSecurityAssociationParameters", child},
			{"DeadPeerDetectionRate", "Medium"},
			{"DisableMOBIKE", 0},
			{"DisableRedirect", 0},
			{"EnablePFS", flag(esp.group != 0)},
			{"EnforceRoutes", flag(!p.full() && p.Connect == Always)},
			{"IKESecurityAssociationParameters", ike},
			{"IncludeAllNetworks", flag(p.full() && p.Connect == Always)},
			// The device's name is the subject alternative name of its
			// certificate; Apple can't send a distinguished name.
			{"LocalIdentifier", p.Device},
			{"NATKeepAliveOffloadEnable", 1},
			{"PayloadCertificateUUID", p.uuid("apple identity")},
			{"RemoteAddress", g.Address},
			{"RemoteIdentifier", g.id()},
			{"ServerCertificateIssuerCommonName", p.GatewayIssuer},
			{"UseConfigurationAttributeInternalIPSubnet", flag(!p.full())},
		}
		if p.MTU != 0 {
			d = append(d, entry{"MTU", min(p.MTU, appleMTU)})
		}
		if rules := p.appleRules(); i == 0 && rules != nil {
			d = append(d, entry{"OnDemandEnabled", 1}, entry{"OnDemandRules", rules},
				entry{"OnDemandUserOverrideDisabled", flag(p.Connect == Always)})
		}
		payload := dict{{"IKEv2", d}, {"UserDefinedName", p.titleOf(i)}, {"VPNType", "IKEv2"}}
		if len(p.DNS) > 0 && len(p.Domains) > 0 {
			payload = append(payload, entry{"DNS", dict{
				{"DNSProtocol", "Cleartext"},
				{"ServerAddresses", texts(p.DNS)},
				{"SupplementalMatchDomains", p.Domains},
			}})
		}
		if proxies := p.appleProxies(); proxies != nil {
			payload = append(payload, entry{"Proxies", proxies})
		}
		payloads = append(payloads, p.payload(payloadVPN, numbered("vpn", i), p.titleOf(i), payload))
	}
	if p.Connect == Always {
		b.note("Apple's AlwaysOn is for supervised devices; this profile connects on demand on every network, which the user can't turn off on iOS")
	}
	return payloads, nil
}

// appleRules of connecting; the first that matches a network counts. Nil if
// the user connects.
func (p *Profile) appleRules() []dict {
	if p.Connect == Manual {
		return nil
	}
	var rules []dict
	if len(p.TrustedNetworks) > 0 {
		rules = append(rules, dict{{"Action", "Disconnect"}, {"DNSDomainMatch", p.TrustedNetworks}})
	}
	if p.Connect == OnDemand && len(p.Domains) > 0 {
		names := make([]string, 0, 2*len(p.Domains))
		for _, d := range p.Domains {
			names = append(names, d, "*."+d)
		}
		when := dict{{"Domains", names}, {"DomainAction", "ConnectIfNeeded"}}
		if len(p.DNS) > 0 {
			when = append(when, entry{"RequiredDNSServers", texts(p.DNS)})
		}
		return append(rules, dict{{"Action", "EvaluateConnection"}, {"ActionParameters", []dict{when}}})
	}
	return append(rules, dict{{"Action", "Connect"}})
}

func (p *Profile) appleProxies() dict {
	switch {
	case p.Proxy.PAC != "":
		return dict{{"ProxyAutoConfigEnable", 1}, {"ProxyAutoConfigURLString", p.Proxy.PAC}}
	case p.Proxy.Server != "":
		host, port := p.Proxy.hostPort()
		return dict{
			{"HTTPEnable", 1}, {"HTTPProxy", host}, {"HTTPPort", port},
			{"HTTPSEnable", 1}, {"HTTPSProxy", host}, {"HTTPSPort", port},
		}
	}
	return nil
}

// flag is Apple's integer for a boolean.
func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}
