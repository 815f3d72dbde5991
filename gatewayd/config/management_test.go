package config

import (
	"strings"
	"testing"
)

// managedSample is the sample with a manager in place of static.
func managedSample(edits ...string) string {
	text, _, _ := strings.Cut(sample(), "\n# The role of `gatewayd run enrollment`")
	before, rest, _ := strings.Cut(text, "\n  static:\n")
	_, after, _ := strings.Cut(rest, "\n  # A manager configures this gateway")
	text = before + "\n  # A manager configures this gateway" + after
	return strings.NewReplacer(append(edits, "listen: \"off\"\n    # What the manager", "listen: 10.2.0.1:8447\n    # What the manager",
		`name: ""`, "name: gw1", `key: ""`, "key: management.key", `instance_oid: ""`, "instance_oid: 2.25.7")...).Replace(text)
}

func TestManagement(t *testing.T) {
	c, err := Parse("f.yaml", []byte(managedSample()))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Managed() || c.ManagementHost() != "gw1" || !strings.HasSuffix(c.ManagementFile(), "/management.db") {
		t.Errorf("%+v", c.Gateway.Management)
	}
	for _, bad := range []struct{ from, to, want string }{
		{`name: ""`, "name: GW 1", `gateway.management.name: got "GW 1"`},
		{`name: ""`, `name: ""`, `gateway.management.name: not set`},
		{`key: ""`, `key: ""`, `gateway.management.key: not set`},
		{`key: ""`, "key: pki/gateway.key", `gateway.management.key: got pki/gateway.key, which is a key of gateway.identity.credentials`},
		{`host: ""`, "host: a_b c", `gateway.management.host: got`},
		{`after: 0s`, "after: 1s", `gateway.management.unreachable.after: got 1s`},
		{`then: admit`, "then: panic", `expected one of admit, refuse`},
		{"  # A manager configures this gateway", "  static: {pools: [10.9.0.0/16]}\n  # A manager configures this gateway", `gateway.static: got a section, expected none`},
	} {
		_, err := Parse("f.yaml", []byte(managedSample(bad.from, bad.to)))
		if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("%s: %v, want %q", bad.to, err, bad.want)
		}
	}
}

// What was pushed is validated as the file is, and changes nothing of it.
func TestWith(t *testing.T) {
	c, err := Parse("f.yaml", []byte(managedSample()))
	if err != nil {
		t.Fatal(err)
	}
	before := len(c.Gateway.IKE.Proposals)
	next, err := c.With(Pushed{Settings: []Setting{{"ike.proposals", `["aes256gcm16-prfsha384-ecp384"]`}, {"esp.lifetime.rekey", `"2h"`}, {"static.unknown_devices", `"refuse"`}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(next.Gateway.IKE.Proposals) != 1 || next.Gateway.ESP.Lifetime.Rekey.String() != "2h" || next.Gateway.Static.UnknownDevices != UnknownRefuse {
		t.Errorf("%+v", next.Gateway)
	}
	if len(c.Gateway.IKE.Proposals) != before || c.Gateway.ESP.Lifetime.Rekey.String() != "4h" {
		t.Error("the file's configuration was changed")
	}
	plain, err := c.With(Pushed{})
	if err != nil || plain.Gateway.Static.UnknownDevices != UnknownQuarantine || len(plain.Gateway.Static.Groups) != 1 {
		t.Errorf("%+v, %v", plain.Gateway.Static, err)
	}
	for _, s := range []Setting{
		{"management.listen", `"10.2.0.1:1"`}, {"resumption.key_file", `"/etc/shadow"`}, {"records.file", `"/etc/passwd"`}, {"debug.key_log", `"/tmp"`},
		{"ike", `{}`}, {"identity.id", `"x"`}, {"ike.crash_detection", "false"}, {"esp.esn", strings.Repeat("[", 100)}, {"esp.esn", ""}, {"esp.esn", "true\n---\nfalse"},
		{"ike.lifetime", "[1]"}, {"ike.lifetime.rekey.x", "1"}, {"ike.proposals", "[]"}, {"esp.lifetime.hard", `"1s"`},
	} {
		if _, err := c.With(Pushed{Settings: []Setting{s}}); err == nil {
			t.Errorf("%s %.20q is taken", s.Name, s.Value)
		}
	}
}

func FuzzSetting(f *testing.F) {
	c, err := Parse("f.yaml", []byte(managedSample()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("ike.proposals", `["aes128gcm16-prfsha256-x25519"]`)
	f.Add("static.dns", `["10.2.0.53", "fd00::53"]`)
	f.Add("ike.lifetime", `{"rekey": "1h", "hard": "2h"}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		next, err := c.With(Pushed{Settings: []Setting{{name, value}}})
		if err == nil && next.Gateway.Management.Listen != c.Gateway.Management.Listen {
			t.Fatalf("%q sets where managers dial", name)
		}
	})
}
