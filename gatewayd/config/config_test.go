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
		{"unknown key with none", "zzzzzzzzzz: 1\n", `f.yaml:1: zzzzzzzzzz: unknown key; expected one of admin, debug, gateway, log, metrics, profile, runtime_dir, state_dir`},
		{"not YAML", "gateway: [\n", `f.yaml:1: not YAML: `},
		{"a tab", "gateway:\n\tike:\n", `f.yaml:2: not YAML: `},
		{"a list for a section", "gateway: []\n", `f.yaml:1: gateway: got a list, expected a section with the keys external, internal,`},
		{"a word for a file", "gateway\n", `f.yaml:1: got "gateway", expected a section with the keys`},
		{"two documents", sample() + "---\nlog: {level: info}\n", `got a second document, expected one in a file`},
		{"an alias", "log: &a {level: info}\n", `f.yaml:1: log: got an anchor or alias, which are not supported`},
		{"a merge key", "log:\n  <<: {level: info}\n", `f.yaml:2: log.<<: merge keys are not supported`},
		{"a bracket storm", strings.Repeat("[", 1000), `f.yaml:1: got more than 32 opening brackets at once`},
		{"too long", strings.Repeat("#", MaxSize+1), `f.yaml: got 262145 bytes, expected at most 262144`},
		{"an item of a list", strings.Replace(sample(), "dns: []", "dns:\n      - 192.0.2.1\n      - 192.0.2.", 1), `gateway.static.dns[1]: got "192.0.2.", expected an IP address such as 192.0.2.1`},
		{"a gateway of profiles", strings.Replace(sample(), "gateways: []", "gateways: [vpn 1]", 1), `profile.gateways: invalid profile: gateway "vpn 1"`},
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
	c.Gateway.Static.Pools = nil
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

func TestProposals(t *testing.T) {
	for text, ok := range map[string]bool{
		"aes128gcm16-prfsha256-x25519":   true,
		"aes256-sha256-ecp256":           true,
		"aes256-sha384-prfsha512-ecp384": true,
		"aes128gcm16-x25519":             false, // no PRF
		"aes128gcm16-sha256-x25519":      false, // AEAD brings its integrity
		"aes128-prfsha256-x25519":        false, // no integrity
		"aes256-sha256":                  false, // no group
		"aes256-sha256-modp1024":         false,
		"sha256-aes256-ecp256":           false,
		"":                               false,
	} {
		var p IKEProposal
		err := p.UnmarshalText([]byte(text))
		if (err == nil) != ok {
			t.Errorf("%q: got error %v, want accepted %v", text, err, ok)
		}
		if err == nil && p.Check() != nil {
			t.Errorf("%q: package ikecrypto: %v", text, p.Check())
		}
	}
	var p IKEProposal
	if err := p.UnmarshalText([]byte("aes256-sha384-ecp256")); err != nil || p.Suite.String() != "AES_CBC_256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/ECP_256" {
		t.Errorf("PRF of the integrity's hash: got %v, %v", p.Suite, err)
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
