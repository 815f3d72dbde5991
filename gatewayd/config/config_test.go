package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var update = flag.Bool("update", false, "rewrite golden files")

// A file in which nearly everything is wrong: each error names line, key, what
// was found and what was expected, and all of them come at once.
func TestEveryErrorAtOnce(t *testing.T) {
	_, err := Load(filepath.Join("testdata", "bad.yaml"))
	if err == nil {
		t.Fatal("a file full of errors was accepted")
	}
	golden := filepath.Join("testdata", "bad.golden")
	got := err.Error() + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("errors changed (run with -update if they should):\n%s", got)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown key with a near one", "gateway:\n  external:\n    adress: x\n", `f.yaml:3: gateway.external.adress: unknown key; did you mean 'address'?`},
		{"unknown key with none", "zzzzzzzzzz: 1\n", `f.yaml:1: zzzzzzzzzz: unknown key; expected one of admin, client, debug, enrollment, gateway, log, manager, metrics, profile, runtime_dir, state_dir`},
		{"not YAML", "gateway: [\n", `f.yaml:1: not YAML: `},
		{"a tab", "gateway:\n\tike:\n", `f.yaml:2: not YAML: `},
		{"a list for a section", "gateway: []\n", `f.yaml:1: gateway: got a list, expected a section with the keys backend, offload, external, internal,`},
		{"a word for a file", "gateway\n", `f.yaml:1: got "gateway", expected a section with the keys`},
		{"two documents", sample() + "---\nlog: {level: info}\n", `got a second document, expected one in a file`},
		{"an alias", "log: &a {level: info}\n", `f.yaml:1: log: got an anchor or alias, which are not supported`},
		{"a merge key", "log:\n  <<: {level: info}\n", `f.yaml:2: log.<<: merge keys are not supported`},
		{"a bracket storm", strings.Repeat("[", 1000), `f.yaml:1: got more than 32 opening brackets at once`},
		{"too long", strings.Repeat("#", MaxSize+1), `f.yaml: got 262145 bytes, expected at most 262144`},
		{"a DNS server of a family without pool", strings.Replace(sample(), "dns: []", "dns: [\"2001:db8::1\"]", 1), `gateway.static.dns[0]: got 2001:db8::1, expected an IPv4 one, because gateway.static.pools has no IPv6 network`},
		{"a network of a family without pool", strings.NewReplacer("10.9.0.0/16", "'2001:db8:9::/64'", "networks: []", "networks: [10.2.0.0/24]").Replace(sample()), `gateway.static.networks[0]: got 10.2.0.0/24, expected an IPv6 one`},
		{"domains without a server", strings.Replace(sample(), "domains: []\n    # Networks behind", "domains: [corp.example.com]\n    # Networks behind", 1), `gateway.static.domains: got domains without a server`},
		{"a pool around an address", strings.NewReplacer("10.9.0.0/16", "'2001:db8::/32'", "more_addresses: []", "more_addresses: ['2001:db8::1']").Replace(sample()), `gateway.static.pools[0]: got 2001:db8::/32, which holds the external address 2001:db8::1`},
		{"an address twice", strings.Replace(sample(), "more_addresses: []", "more_addresses: [203.0.113.1]", 1), `gateway.external.more_addresses[0]: got 203.0.113.1, which is given already`},
		{"redirected to itself", strings.Replace(sample(), "to: \"\"", "to: VPN.example.com", 1), `gateway.redirect.to: got "VPN.example.com", which is gateway.identity.id`},
		{"redirected to its address", strings.Replace(sample(), "to: \"\"", "to: 203.0.113.1", 1), `gateway.redirect.to: got 203.0.113.1, which is this gateway`},
		{"hard before rekey", strings.Replace(sample(), "hard: 25h\n    # Child SAs of", "hard: 7h\n    # Child SAs of", 1), `gateway.ike.lifetime.hard: got 7h, expected 8h1m to`},
		{"too many combinations", strings.Replace(sample(), "      - aes128gcm16-prfsha256-x25519\n", "      - aes128gcm16-aes192gcm16-aes256gcm16-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096\n      - aes128-aes192-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096\n", 1), `gateway.ike.proposals: got 262 combinations`},
		{"an item of a list", strings.Replace(sample(), "dns: []", "dns:\n      - 192.0.2.1\n      - 192.0.2.", 1), `gateway.static.dns[1]: got "192.0.2.", expected an IP address such as 192.0.2.1`},
		{"a gateway of profiles", strings.Replace(sample(), "gateways: []", "gateways: [vpn 1]", 1), `profile.gateways: invalid profile: gateway "vpn 1"`},
		{"a port of any protocol", strings.Replace(sample(), "protocol: tcp", "protocol: any", 1), `gateway.guard.allow[0].protocol: got "any", expected tcp or udp, because a port is set`},
		{"an unknown mode", strings.Replace(sample(), "mode: auto", "mode: fast", 1), `gateway.guard.mode: got "fast", expected one of auto, native, generic, off`},
		{"an unknown protocol", strings.Replace(sample(), "protocol: tcp", "protocol: sctp", 1), `gateway.guard.allow[0].protocol: got "sctp", expected one of any, tcp, udp`},
		{"a rate of nothing", strings.Replace(sample(), "per_second: 2000", "per_second: 0", 1), `gateway.guard.rates.cookie.per_second: got 0, expected 1 to`},
		{"pins with a dot", strings.Replace(sample(), "bpf/gatewayd", "bpf/gateway.d", 1), `gateway.guard.pins: got "/sys/fs/bpf/gateway.d", expected a folder without dots`},
		{"two proxies", strings.NewReplacer(`server: ""`, "server: a:1", `pac: ""`, "pac: http://a/").Replace(sample()), `profile.proxy: invalid profile: a proxy and a script for it`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.file))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func sample() string { return string(Sample) }

func TestSampleIsValid(t *testing.T) {
	if _, err := Parse("sample.yaml", Sample); err != nil {
		t.Fatal(err)
	}
}

// The sample names each key of the structs, each with a comment in reach, and
// what it shows for a key with a default is that default.
func TestSampleCoversEveryKey(t *testing.T) {
	c, err := Parse("sample.yaml", Sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range allKeys(reflect.TypeFor[Config](), "") {
		if _, ok := c.lines[key]; !ok {
			t.Errorf("sample.yaml lacks %s", key)
		}
	}
	// These have no default.
	c.Gateway.External.Interface, c.Gateway.External.Address = "", netip.Addr{}
	c.Gateway.Internal.Interface = ""
	c.Gateway.Identity = Identity{}
	c.Gateway.Trust.Roots = nil
	c.Gateway.Static.Pools, c.Gateway.Static.Groups = nil, nil
	c.Gateway.Guard.Allow = nil
	e := &c.Enrollment
	e.URL, e.Credentials, e.Admin.Credentials, e.Device.Gateways = "", nil, nil, nil
	e.Instance, e.Instances, c.Client = EnrollmentOwn{}, nil, Client{}
	m := &c.Manager
	m.URL, m.Credentials, m.Admin.Credentials = "", nil, nil
	m.Devices.Roots, m.Devices.InstanceOIDs = nil, nil
	got, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	want, err := Default().YAML()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("sample.yaml shows other values than the defaults:\n%s\ndefaults:\n%s", got, want)
	}
}

// allKeys lists sections and scalars; the keys of a list of sections carry the
// index 0.
func allKeys(t reflect.Type, key string) []string {
	var keys []string
	for f := range t.Fields() {
		tag := f.Tag.Get("yaml")
		if tag == "" {
			continue
		}
		path := join(key, tag)
		keys = append(keys, path)
		switch {
		case isSection(f.Type):
			keys = append(keys, allKeys(f.Type, path)...)
		case f.Type.Kind() == reflect.Slice && isSection(f.Type.Elem()):
			keys = append(keys, allKeys(f.Type.Elem(), path+"[0]")...)
		}
	}
	return keys
}

func TestEveryFieldHasAKey(t *testing.T) {
	if n := len(allKeys(reflect.TypeFor[Config](), "")); n < 50 {
		t.Fatalf("reflection found only %d keys", n)
	}
	var walk func(reflect.Type)
	walk = func(t2 reflect.Type) {
		for f := range t2.Fields() {
			if f.IsExported() && f.Tag.Get("yaml") == "" {
				t.Errorf("%s.%s has no key", t2, f.Name)
			}
			if isSection(f.Type) {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

// What `config show` prints is a configuration again, and the same one.
func TestShowReadsBack(t *testing.T) {
	c, err := Parse("/etc/gatewayd/sample.yaml", Sample)
	if err != nil {
		t.Fatal(err)
	}
	for name, print := range map[string]func() ([]byte, error){"yaml": c.YAML, "json": c.JSON} {
		text, err := print()
		if err != nil {
			t.Fatal(name, err)
		}
		again, err := Parse("/etc/gatewayd/sample.yaml", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if a, b := mustYAML(t, c), mustYAML(t, again); a != b {
			t.Errorf("%s reads back as\n%s\nnot\n%s", name, b, a)
		}
	}
}

func mustYAML(t *testing.T, c *Config) string {
	t.Helper()
	b, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A reload takes what it can; what needs a restart is named and keeps its
// running value.
func TestNeedRestart(t *testing.T) {
	running, err := Parse("sample.yaml", Sample)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer("port: 500\n", "port: 501\n", "level: info", "level: debug", "10.9.0.0/16", "'2001:db8:9::/64'", "barred: []", "barred: [lost-phone]").Replace(sample())
	file, err := Parse("sample.yaml", []byte(edited))
	if err != nil {
		t.Fatal(err)
	}
	got := NeedRestart(running, file)
	want := []string{"gateway.external.port", "gateway.static.pools"}
	if !slices.Equal(got, want) {
		t.Errorf("need a restart: got %v, want %v", got, want)
	}
	file.Adopt(running)
	if file.Gateway.External.Port != 500 || file.Gateway.Static.Pools[0] != running.Gateway.Static.Pools[0] {
		t.Error("a running port or pool was replaced")
	}
	if len(file.Gateway.Trust.Barred) != 1 {
		t.Error("the barred device was lost")
	}
	if NeedRestart(running, file) != nil {
		t.Error("still different after Adopt")
	}
}

// Pools follow a reload as long as the address families stay.
func TestPoolsFollowAReload(t *testing.T) {
	const both = "['2001:db8:9::/64', 10.9.0.0/16]"
	pools := func(list string) *Config {
		c, err := Parse("sample.yaml", []byte(strings.Replace(sample(), "pools:\n      - 10.9.0.0/16", "pools: "+list, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tt := range []struct {
		running, file string
		restart       bool
	}{
		{"[10.9.0.0/16]", "[10.10.0.0/16]", false},
		{both, "[10.10.0.0/16, 10.9.0.0/24, '2001:db8:9::/64']", false},
		{"[10.9.0.0/16]", both, true},
		{both, "[10.9.0.0/16]", true},
	} {
		running, file := pools(tt.running), pools(tt.file)
		if got := slices.Contains(NeedRestart(running, file), "gateway.static.pools"); got != tt.restart {
			t.Errorf("%s to %s: restart %v", tt.running, tt.file, got)
		}
		want := file.Gateway.Static.Pools
		if tt.restart {
			want = running.Gateway.Static.Pools
		}
		file.Adopt(running)
		if !slices.Equal(file.Gateway.Static.Pools, want) {
			t.Errorf("%s to %s: got %v", tt.running, tt.file, file.Gateway.Static.Pools)
		}
	}
}

func TestProposals(t *testing.T) {
	for text, want := range map[string]int{
		"aes128gcm16-prfsha256-x25519":                       1,
		"aes256-sha256-ecp256":                               1,
		"aes256-sha384-prfsha512-ecp384":                     1,
		"chacha20poly1305-prfsha256-ecp521":                  1,
		"aes192-sha512-modp4096":                             1,
		"aes256-aes128-sha256-sha384-modp2048-modp3072":      8,
		"aes128gcm16-aes192gcm16-prfsha256-prfsha384-x25519": 4,
		"aes256-sha256-sha384-prfsha384-ecp256":              2,
		"aes128gcm16-x25519":                                 0, // no PRF
		"aes128gcm16-sha256-x25519":                          0, // AEAD brings its integrity
		"chacha20poly1305-sha256-prfsha256-x25519":           0,
		"aes128gcm16-aes128-sha256-prfsha256-x25519":         0, // AEAD has proposals of its own
		"aes128-prfsha256-x25519":                            0, // no integrity
		"aes256-sha256":                                      0, // no group
		"aes256-sha256-modp1024":                             0, // legacy has switches
		"3des-sha1-modp1024":                                 0,
		"sha256-aes256-ecp256":                               0,
		"aes256-aes256-sha256-ecp256":                        0, // twice
		"":                                                   0,
	} {
		var p IKEProposal
		err := p.UnmarshalText([]byte(text))
		if (err == nil) != (want > 0) || len(p.Suites) != want {
			t.Errorf("%q: got %d suites and error %v, want %d", text, len(p.Suites), err, want)
		}
		for _, s := range p.Suites {
			if s.Check() != nil {
				t.Errorf("%q: package ikecrypto: %v", text, s.Check())
			}
		}
	}
	var p IKEProposal
	if err := p.UnmarshalText([]byte("aes256-sha384-ecp256")); err != nil || p.Suites[0].String() != "AES_CBC_256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/ECP_256" {
		t.Errorf("PRF of the integrity's hash: got %v, %v", p.Suites, err)
	}
}

// suitesOf lets an offer meet what the configuration allows.
func suitesOf(t *testing.T, edits ...string) (ike []string, esp []string, g Gateway) {
	t.Helper()
	c, err := Parse("f.yaml", []byte(strings.NewReplacer(edits...).Replace(sample())))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Gateway.Suites() {
		if err := s.Check(); err != nil {
			t.Errorf("package ikecrypto: %v", err)
		}
		ike = append(ike, s.String())
	}
	for _, a := range c.Gateway.Algorithms() {
		if _, _, ok := a.KeyLengths(); !ok {
			t.Errorf("package dataplane doesn't know %v", a)
		}
		esp = append(esp, a.String())
	}
	return ike, esp, c.Gateway
}

// What clients are known to offer finds something in the defaults.
func TestDefaultsServeEveryClient(t *testing.T) {
	ike, esp, _ := suitesOf(t)
	for client, want := range map[string][2]string{
		"strongSwan":                   {"AES_CBC_128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/CURVE_25519", "AES_CBC_128/HMAC_SHA2_256_128"},
		"strongSwan, AEAD":             {"AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519", "AES_GCM_16_128"},
		"Apple as it is":               {"AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC_256/HMAC_SHA2_256_128"},
		"Apple with a profile":         {"AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384", "AES_GCM_16_256"},
		"Android":                      {"AES_CBC_256/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/MODP_2048", "AES_CBC_256/HMAC_SHA2_512_256"},
		"Windows with a profile":       {"AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384", "AES_GCM_16_256"},
		"Windows with a CBC profile":   {"AES_CBC_256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/MODP_2048", "AES_CBC_256/HMAC_SHA2_256_128"},
		"Windows NegotiateDH2048":      {"AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC_256/HMAC_SHA2_256_128"},
		"whoever has no AES in silico": {"CHACHA20_POLY1305/PRF_HMAC_SHA2_256/CURVE_25519", "CHACHA20_POLY1305"},
	} {
		if !slices.Contains(ike, want[0]) || !slices.Contains(esp, want[1]) {
			t.Errorf("%s: %v is not allowed", client, want)
		}
	}
	if ike[0] != "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519" {
		t.Errorf("first of all is %s", ike[0])
	}
	for _, s := range append(ike, esp...) {
		if strings.Contains(s, "SHA1") || strings.Contains(s, "3DES") || strings.Contains(s, "MODP_1024") || strings.Contains(s, "MODP_3072") || strings.Contains(s, "MODP_4096") {
			t.Errorf("%s by default", s)
		}
	}
}

// Each switch allows its algorithm alone, behind all others, and every
// combination once.
func TestLegacySwitches(t *testing.T) {
	plain, plainESP, _ := suitesOf(t)
	const windows = "3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1024"
	for _, tt := range []struct {
		keys               []string
		first, last        string
		firstESP, lastESP  string
		forbidden          []string
		offersWindows10IKE bool
	}{
		{[]string{"sha1_signatures"}, "", "", "", "", []string{"SHA1", "3DES", "MODP_1024"}, false},
		{[]string{"hmac_sha1"}, "AES_CBC_256/HMAC_SHA1_96/PRF_HMAC_SHA1/CURVE_25519", "AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/ECP_521",
			"AES_CBC_256/HMAC_SHA1_96", "AES_CBC_128/HMAC_SHA1_96", []string{"3DES", "MODP_1024"}, false},
		{[]string{"modp_1024"}, "AES_GCM_16_128/PRF_HMAC_SHA2_256/MODP_1024", "AES_CBC_128/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/MODP_1024", "", "", []string{"3DES", "SHA1"}, false},
		{[]string{"triple_des"}, "3DES_CBC/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/CURVE_25519", "3DES_CBC/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/ECP_521",
			"3DES/HMAC_SHA2_256_128", "3DES/HMAC_SHA2_512_256", []string{"MODP_1024", "SHA1"}, false},
		{[]string{"hmac_sha1", "modp_1024", "triple_des"}, "", windows, "AES_CBC_256/HMAC_SHA1_96", "3DES/HMAC_SHA1_96", nil, true},
	} {
		t.Run(strings.Join(tt.keys, " "), func(t *testing.T) {
			var edits []string
			for _, key := range tt.keys {
				edits = append(edits, key+": false", key+": true")
			}
			ike, esp, g := suitesOf(t, edits...)
			more, moreESP := ike[len(plain):], esp[len(plainESP):]
			if !slices.Equal(ike[:len(plain)], plain) || !slices.Equal(esp[:len(plainESP)], plainESP) {
				t.Error("legacy comes before something else")
			}
			for _, check := range []struct {
				list        []string
				first, last string
			}{{more, tt.first, tt.last}, {moreESP, tt.firstESP, tt.lastESP}} {
				switch {
				case check.last == "" && len(check.list) > 0:
					t.Errorf("adds %v", check.list)
				case check.last == "":
				case check.list[len(check.list)-1] != check.last || check.first != "" && check.list[0] != check.first:
					t.Errorf("adds %v, want %s to %s", check.list, check.first, check.last)
				}
			}
			for _, s := range slices.Concat(more, moreESP) {
				for _, word := range tt.forbidden {
					if strings.Contains(s, word) {
						t.Errorf("adds %s", s)
					}
				}
			}
			if slices.Contains(more, windows) != tt.offersWindows10IKE {
				t.Errorf("%s among %v", windows, more)
			}
			for _, list := range [][]string{ike, esp} {
				slices.Sort(list)
				if n := len(list); len(slices.Compact(list)) != n {
					t.Error("a combination comes twice")
				}
			}
			names := g.Legacy.Allowed().Names()
			if len(names) != len(tt.keys) {
				t.Errorf("allowed: %v", names)
			}
		})
	}
}

// With AEAD proposals alone there is CBC for what needs it, and nothing else.
func TestLegacyBesideAEAD(t *testing.T) {
	c, err := Parse("f.yaml", []byte(sample()))
	if err != nil {
		t.Fatal(err)
	}
	g := c.Gateway
	g.IKE.Proposals, g.ESP.Proposals = mustIKE("aes128gcm16-prfsha256-ecp256"), mustESP("aes128gcm16")
	g.Legacy = Legacy{HMACSHA1: true, TripleDES: true}
	var got []string
	for _, s := range g.Suites()[1:] {
		got = append(got, s.String())
	}
	for _, a := range g.Algorithms()[1:] {
		got = append(got, a.String())
	}
	want := []string{
		"AES_CBC_256/HMAC_SHA1_96/PRF_HMAC_SHA1/ECP_256", "AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/ECP_256",
		"3DES_CBC/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256", "3DES_CBC/HMAC_SHA1_96/PRF_HMAC_SHA1/ECP_256",
		"AES_CBC_256/HMAC_SHA1_96", "AES_CBC_128/HMAC_SHA1_96", "3DES/HMAC_SHA2_256_128", "3DES/HMAC_SHA1_96",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The switch for AUTH adds no algorithm, and no CBC comes with another.
	g.Legacy = Legacy{SHA1Signatures: true, MODP1024: true}
	if n := len(g.Suites()); n != 2 || len(g.Algorithms()) != 1 {
		t.Errorf("%d suites and %d algorithms, want 2 and 1", n, len(g.Algorithms()))
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "1500": 1500, "64GiB": 64 << 30, "1 KiB": 1024} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "99999999TiB", "1GB"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Sample)
	bad, err := os.ReadFile(filepath.Join("testdata", "bad.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bad)
	for _, s := range []string{"", "---\n---\n", "a: &a [*a]", "log: {level: info", "gateway: !!binary x", "? a\n: b", "log:\n  level: |\n    info\n", "gateway: {static: {pools: [0.0.0.0/0]}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		// Whatever is accepted can be shown and read back.
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(text, &tree); err != nil {
			t.Fatalf("shown as something else than YAML: %v\n%s", err, text)
		}
		if _, err := Parse("f.yaml", text); err != nil {
			t.Fatalf("not accepted again: %v\n%s", err, text)
		}
	})
}
