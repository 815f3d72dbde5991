package config

import (
	"errors"
	"strings"
	"testing"
)

// only is the least file of an enrollment server.
const only = `enrollment:
  url: https://enroll.example.com
  credentials: [{certificate: e.pem, key: e.key}]
  admin: {credentials: [{certificate: e.pem, key: e.key}]}
  device: {gateways: [{address: vpn.example.com}]}
`

// A file says by its sections which roles it is for; what it doesn't have isn't
// asked for.
func TestRolesOfAFile(t *testing.T) {
	c, err := Parse("f.yaml", []byte(only))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Require("enrollment"); err != nil {
		t.Error(err)
	}
	if err := c.Require("gateway"); err == nil || !strings.Contains(err.Error(), "f.yaml: gateway: not set") {
		t.Errorf("without a gateway: %v", err)
	}
	shown, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), "\ngateway:") || strings.Contains(string(shown), "\nclient:") {
		t.Errorf("shows sections of other roles:\n%s", shown)
	}
	if _, err := Parse("f.yaml", shown); err != nil {
		t.Errorf("what is shown doesn't read back: %v", err)
	}
	if c.DatabaseFile() != "/var/lib/gatewayd/enrollment/enrollment.db" {
		t.Error(c.DatabaseFile())
	}
	if _, err := Parse("f.yaml", []byte("client: {enrollment: {server: 'https://127.0.0.1:8445', certificate: a.pem, key: a.key, roots: [r.pem]}}\n")); err != nil {
		t.Errorf("an administrator's own machine: %v", err)
	}
	if _, err := Parse("f.yaml", nil); err == nil || !strings.Contains(err.Error(), "gateway.identity") {
		t.Errorf("an empty file is a gateway's: %v", err)
	}
}

func TestEnrollmentErrors(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"no URL", "  url: https://enroll.example.com\n", "", `f.yaml:1: enrollment.url: not set`},
		{"plain HTTP", "https://enroll", "http://enroll", `f.yaml:2: enrollment.url: got "http://enroll.example.com", expected the https URL`},
		{"a URL with a path", "example.com\n", "example.com/x\n", `f.yaml:2: enrollment.url: got`},
		{"one address twice", "  admin: {", "  listen: 127.0.0.1:8445\n  admin: {", `enrollment.admin.listen: got 127.0.0.1:8445, which is enrollment.listen`},
		{"two databases", "  admin: {", "  database: {sqlite: a.db, postgres: host=db}\n  admin: {", `f.yaml:4: enrollment.database.postgres: got sqlite too`},
		{"a password", "  admin: {", "  database: {postgres: 'host=db password=secret'}\n  admin: {", `enrollment.database.postgres: got a password, expected it in a file`},
		{"a password in a URL", "  admin: {", "  database: {postgres: 'postgres://u:secret@db/e'}\n  admin: {", `enrollment.database.postgres: got a password`},
		{"TLS by another name", "  admin: {", "  database: {tls: prefer}\n  admin: {", `enrollment.database.tls: got "prefer", expected one of verify-full, insecure-without-tls`},
		{"half a token", "  admin: {", "  ca: {pkcs11: {token: t}}\n  admin: {", `enrollment.ca.pkcs11.module: not set`},
		{"valid for longer than allowed", "  admin: {", "  requests: {valid: 200h}\n  admin: {", `enrollment.requests.valid: got 200h, expected 5m to 168h`},
		{"renewal before the beginning", "  admin: {", "  certificates: {lifetime: 24h, renew_before: 24h}\n  admin: {", `enrollment.certificates.renew_before: got 24h, expected 1m to`},
		{"a gateway that nobody can dial", "address: vpn.example.com", "address: 'vpn 1'", `enrollment.device.gateways[0]: invalid profile: gateway "vpn 1"`},
		{"an instance without a way", "  device:", "  instances: [{name: a.example.com, url: a.example.com, root: r.pem}]\n  device:", `enrollment.instances[0].url: got "a.example.com", expected the https URL`},
		{"instances without an own certificate", "  device:", "  instances: [{name: a.example.com, url: 'https://a.example.com:8446', root: r.pem}]\n  device:", "enrollment.instance.certificate: not set"},
		{"a network with host bits", "example.com}]}", "example.com}], networks: [10.1.2.3/8]}", `enrollment.device.networks[0]: got 10.1.2.3/8, expected 10.0.0.0/8`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refuses(t, only, tt.from, tt.to, tt.want)
		})
	}
}

// refuses a file in which from is to, and says so, without a password.
func refuses(t *testing.T, file, from, to, want string) {
	t.Helper()
	text := strings.Replace(file, from, to, 1)
	if text == file {
		t.Fatal("nothing was changed")
	}
	_, err := Parse("f.yaml", []byte(text))
	var problems Problems
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Error("the message repeats a password")
	}
}
