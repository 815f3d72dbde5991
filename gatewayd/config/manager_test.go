package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manages is the least file of a device management server beside an enrollment
// server.
const manages = only + `manager:
  url: https://dm.example.com:8443/dm
  credentials: [{certificate: m.pem, key: m.key}]
  admin: {credentials: [{certificate: m.pem, key: m.key}]}
  devices: {roots: [r.pem], instance_oids: [1.3.6.1.4.1.32473.1]}
`

// Both roles have one database, and devices are told where the other role is.
func TestManager(t *testing.T) {
	c, err := Parse("/etc/f.yaml", []byte(manages))
	if err != nil {
		t.Fatal(err)
	}
	if c.ForGateway() || !ForManager(written(t, manages)) || ForManager(written(t, only)) {
		t.Error("which role is it for?")
	}
	if d := c.ManagerDatabase(); d != c.Enrollment.Database {
		t.Errorf("database %+v", d)
	}
	address, id, first := c.Management()
	if address != "https://dm.example.com:8443/dm" || id != "Roamgate" || first != 3*time.Minute || c.Manager.Path() != "/dm" {
		t.Errorf("devices are told %s, %s, %v; path %s", address, id, first, c.Manager.Path())
	}
	other, err := Parse("f.yaml", []byte(strings.Replace(manages, "  url: https://dm", "  server_id: Acme\n  schedule: {first: 1m}\n  url: https://dm", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, id, first := other.Management(); id != "Acme" || first != time.Minute {
		t.Errorf("devices are told %s, %v", id, first)
	}
	alone, err := Parse("f.yaml", []byte(strings.TrimPrefix(strings.Replace(manages, "  url: https://dm", "  database: {postgres: host=db}\n  url: https://dm", 1), only)))
	if err != nil {
		t.Fatal(err)
	}
	if alone.ManagerDatabase().Postgres != "host=db" {
		t.Errorf("database %+v", alone.ManagerDatabase())
	}
	if keys := NeedRestart(c, other); len(keys) != 2 || keys[0] != "manager.server_id" || keys[1] != "manager.schedule.first" {
		t.Errorf("a restart applies %v", keys)
	}
}

func written(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestManagerErrors(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"no URL", "  url: https://dm.example.com:8443/dm\n", "", `f.yaml:6: manager.url: not set`},
		{"plain HTTP", "https://dm", "http://dm", `f.yaml:7: manager.url: got "http://dm.example.com:8443/dm", expected the https URL`},
		{"a URL with a question", "8443/dm", "8443/dm?x=1", `manager.url: got`},
		{"a path that is a pattern", "8443/dm", "8443/{x}", `manager.url: got`},
		{"a path that leads upward", "8443/dm", "8443/a/../dm", `manager.url: got`},
		{"no root", "roots: [r.pem], ", "", `f.yaml:10: manager.devices.roots: not set`},
		{"no instance", ", instance_oids: [1.3.6.1.4.1.32473.1]", "", `manager.devices.instance_oids: not set`},
		{"a name that is no segment", "  devices: {r", "  server_id: a/b\n  devices: {r", `f.yaml:10: manager.server_id: got "a/b", expected 1 to 64`},
		{"enrollment's listener", "  devices: {r", "  listen: '[::]:443'\n  devices: {r", `manager.listen: got [::]:443, which is enrollment.listen`},
		{"another database", "  devices: {r", "  database: {sqlite: other.db}\n  devices: {r", `f.yaml:10: manager.database: got another database than enrollment.database`},
		{"a password", "  devices: {r", "  database: {postgres: 'host=db password=secret'}\n  devices: {r", `manager.database.postgres: got a password`},
		{"messages that don't pass", "  devices: {r", "  limits: {body: 64KiB}\n  devices: {r", `manager.limits.body: got 65536, expected at least manager.sessions.message`},
		{"a schedule that can't be", "  devices: {r", "  schedule: {retry: 1m}\n  devices: {r", `manager.schedule: invalid schedule: retry (1m0s) must be after first`},
		{"certificates by another name", "  devices: {r", "  devices: {certificates: maybe, r", `manager.devices.certificates: got "maybe", expected one of required, optional`},
		{"nothing is kept", "  devices: {r", "  retention: {messages: 0}\n  devices: {r", `manager.retention.messages: got 0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refuses(t, manages, tt.from, tt.to, tt.want)
		})
	}
}
