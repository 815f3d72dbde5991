package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Variants of the handshake that an extension makes.

var variants = map[string]struct {
	options
	run func(w *world)
}{
	"fragments": {
		options: options{dev: fragments, gw: fragments},
		run:     (*world).connect,
	},
	"fragment_lost": {
		options: options{dev: fragments, gw: fragments},
		run: func(w *world) {
			w.drop[4] = true // the second of the device's
			w.connect()
			w.pass(time.Minute)
		},
	},
	"fragments_of_the_answer_lost": {
		options: options{dev: fragments, gw: fragments},
		run: func(w *world) {
			w.drop[6], w.drop[7] = true, true
			w.connect()
			w.pass(time.Minute)
		},
	},
	"fragments_one_sided": {options: options{dev: fragments}, run: (*world).connect},
	"dual_stack": {
		options: options{initiator: func(c *InitiatorConfig) { c.IPv6 = true }},
		run: func(w *world) {
			w.gw.lease = func(AskLease) Input {
				return Leased{
					Addresses: []netip.Addr{lease, netip.MustParseAddr("fd00::7")},
					Settings: &Settings{
						DNS:      []netip.Addr{netip.MustParseAddr("10.2.0.53"), netip.MustParseAddr("fd00::53")},
						Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("fd00:2::/32")},
						Domains:  []string{"corp.example"},
						Services: []netip.Addr{netip.AddrFrom4([4]byte{255, 255, 255, 255})},
					},
				}
			}
			w.connect()
		},
	},
	"childless_then_child": {
		options: options{gw: func(c *Config) { c.Childless = true }, initiator: noChild},
		run: func(w *world) {
			w.connect()
			w.anotherChild("0.0.0.0/0")
		},
	},
	"childless_not_allowed": {options: options{initiator: noChild}, run: (*world).connect},
	"esn": {
		options: options{dev: func(c *Config) { c.ESN = true }, gw: func(c *Config) { c.ESN = true }},
		run:     (*world).connect,
	},
	"redirect_at_init": {
		options: options{gw: func(c *Config) { c.RedirectTo = "192.0.2.7" }},
		run:     (*world).connect,
	},
	"redirect_at_auth": {run: func(w *world) {
		inner := w.gw.admit
		w.gw.admit = func(a AskAdmit) Input {
			in := inner(a).(Admitted)
			in.RedirectTo = "gw2.example"
			return in
		}
		w.connect()
	}},
	"mobike_announced": {options: options{dev: mobike, gw: mobike}, run: (*world).connect},
	"legacy_refused": {
		options: options{dev: legacy, gw: func(c *Config) {}},
		run:     (*world).connect,
	},
	"legacy_allowed": {options: options{dev: legacy, gw: legacy}, run: (*world).connect},
}

func noChild(c *InitiatorConfig) { c.NoChild = true }

func fragments(c *Config) { c.FragmentSize = 576 }

func legacy(c *Config) {
	c.Legacy = ikecrypto.Legacy{MODP1024: true, HMACSHA1: true, TripleDES: true, SHA1Signatures: true}
	c.Suites = []ikecrypto.Suite{{
		Encryption: ikewire.Encr3DES, Integrity: ikewire.IntegHMACSHA1, PRF: ikewire.PRFHMACSHA1,
		Group: ikewire.GroupMODP1024, Allow: c.Legacy,
	}}
}

func TestVariants(t *testing.T) {
	for name, s := range variants {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s.options)
			s.run(w)
			w.golden(name)
			w.settled()
		})
	}
}

// TestEverySuite connects with every group, and with every cipher and hash.
func TestEverySuite(t *testing.T) {
	groups := []uint16{
		ikewire.GroupCurve25519, ikewire.GroupECP256, ikewire.GroupECP384, ikewire.GroupECP521,
		ikewire.GroupMODP2048, ikewire.GroupMODP3072, ikewire.GroupMODP4096,
	}
	suites := []ikecrypto.Suite{}
	for _, g := range groups {
		suites = append(suites, ikecrypto.Suite{Encryption: ikewire.EncrAESGCM16, KeyBits: 256, PRF: ikewire.PRFHMACSHA256, Group: g})
	}
	for _, bits := range []uint16{128, 192, 256} {
		for _, integ := range []uint16{ikewire.IntegHMACSHA256, ikewire.IntegHMACSHA384, ikewire.IntegHMACSHA512} {
			suites = append(suites, ikecrypto.Suite{Encryption: ikewire.EncrAESCBC, KeyBits: bits, Integrity: integ, PRF: ikewire.PRFHMACSHA512, Group: groups[0]})
		}
		suites = append(suites, ikecrypto.Suite{Encryption: ikewire.EncrAESGCM16, KeyBits: bits, PRF: ikewire.PRFHMACSHA384, Group: groups[0]})
	}
	suites = append(suites, ikecrypto.Suite{Encryption: ikewire.EncrChaCha20Poly1305, PRF: ikewire.PRFHMACSHA256, Group: groups[0]})
	for _, s := range suites {
		t.Run(strings.ReplaceAll(s.String(), "/", "-"), func(t *testing.T) {
			only := func(c *Config) { c.Suites = []ikecrypto.Suite{s} }
			w := newWorld(t, options{dev: only, gw: only})
			w.connect()
			if w.gw.m.state != stateEstablished || w.dev.m.state != stateEstablished {
				t.Errorf("not established:\n%s", w.log.String())
			}
			w.step(w.gw, Rekey{Inbound: w.gw.m.children[0].inbound})
			w.deliver()
			w.one(s.String())
		})
	}
}

// TestWindowsRekeysItself: the gateway leaves Child SAs of Windows alone.
func TestWindowsRekeysItself(t *testing.T) {
	w := newWorld(t, options{
		gw: func(c *Config) { c.ChildLife = Lifetime{Rekey: time.Hour, Hard: 3 * time.Hour} },
		initiator: func(c *InitiatorConfig) {
			c.VendorIDs = [][]byte{[]byte(traits[0].vendor[0] + "\x00\x00\x00\x09")}
		},
	})
	w.connect()
	sent := w.sent
	w.pass(2 * time.Hour)
	if w.sent != sent || w.gw.m.trait().Name != "windows" {
		t.Errorf("%d messages sent to %q\n%s", w.sent-sent, w.gw.m.trait().Name, w.log.String())
	}
}

// TestESNIsInstalled: what was negotiated is what the data plane gets.
func TestESNIsInstalled(t *testing.T) {
	for _, esn := range []bool{true, false} {
		w := newWorld(t, options{dev: func(c *Config) { c.ESN = true }, gw: func(c *Config) { c.ESN = esn }})
		w.connect()
		for _, s := range []*side{w.dev, w.gw} {
			if c := s.changes[0].(dataplane.Install).Child; c.ESN != esn {
				t.Errorf("gateway %v: %s installed ESN %v", esn, s.name, c.ESN)
			}
		}
	}
}

// TestCertificateForTheirRoot: of several certificates the peer gets the one of
// a CA that it trusts; where none is, the best.
func TestCertificateForTheirRoot(t *testing.T) {
	ids := identities()
	for name, want := range map[string]string{"first": "gw", "second": "ecdsa384", "neither": "gw"} {
		anchor := map[string][20]byte{"first": {1}, "second": {2}, "neither": {9}}[name]
		w := newWorld(t, options{
			dev: func(c *Config) { c.TrustAnchors = [][20]byte{{7}, anchor} },
			gw: func(c *Config) {
				first, second := ids["gw"].cred, ids["ecdsa384"].cred
				first.Authorities, second.Authorities = [][20]byte{{1}}, [][20]byte{{3}, {2}}
				c.Credentials = []Credential{first, second}
			},
		})
		var sent [][]byte
		w.dev.admit = func(a AskAdmit) Input { sent = a.Chain; return Refused{Reason: "seen"} }
		w.connect()
		if len(sent) != 1 || string(sent[0]) != string(ids[want].cred.Chain[0]) {
			t.Errorf("%s: not the certificate of %s", name, want)
		}
	}
}
