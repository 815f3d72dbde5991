package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// serverID: it is a segment of URIs in devices' trees, and of ACLs there.
var serverID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (v *validator) manager(m *Manager) {
	v.listener("manager.listen", m.Listen)
	v.managementURL("manager.url", m.URL)
	v.credentials("manager.credentials", m.Credentials)
	v.listener("manager.admin.listen", m.Admin.Listen)
	v.credentials("manager.admin.credentials", m.Admin.Credentials)
	v.database("manager.database", &m.Database)
	v.sameDatabase(m)
	v.required("manager.key_file", m.KeyFile, "a file for the key of the database's secrets")
	v.required("manager.runtime_dir", m.RuntimeDir, "a folder such as "+SystemManagerRuntimeDir)
	for _, f := range []struct{ key, value string }{{"manager.name", m.Name}, {"manager.server_id", m.ServerID}} {
		if !serverID.MatchString(f.value) {
			v.say(f.key, "got %q, expected 1 to 64 of letters, digits, '.', '_' and '-'", clip(f.value))
		}
	}
	if len(m.Devices.Roots) == 0 {
		v.say("manager.devices.roots", "not set, expected at least one PEM file with the root of the devices' CA")
	}
	if len(m.Devices.InstanceOIDs) == 0 {
		v.say("manager.devices.instance_oids", "not set, expected at least one, such as `gatewayd pki show` tells")
	}
	v.managerSessions(&m.Sessions)
	v.managerGateways(&m.Gateways)
	v.listenerLimits("manager.limits.", &m.Limits)
	if m.Limits.Body < m.Sessions.Message {
		v.say("manager.limits.body", "got %d, expected at least manager.sessions.message (%d)", m.Limits.Body, m.Sessions.Message)
	}
	if err := m.Schedule.Schedule().Validate(); err != nil {
		v.say("manager.schedule", "%v", err)
	}
	day := 24 * time.Hour
	v.duration("manager.retention.messages", m.Retention.Messages, time.Hour, 3660*day)
	v.duration("manager.retention.commands", m.Retention.Commands, day, 3660*day)
	v.duration("manager.retention.events", m.Retention.Events, time.Hour, 3660*day)
	listens := []namedListen{
		{"manager.listen", m.Listen}, {"manager.admin.listen", m.Admin.Listen}, {"manager.metrics", m.Metrics},
	}
	if v.Has("enrollment") {
		e := &v.Enrollment
		listens = append([]namedListen{
			{"enrollment.listen", e.Listen}, {"enrollment.admin.listen", e.Admin.Listen},
			{"enrollment.metrics", e.Metrics}, {"enrollment.instance.listen", e.Instance.Listen},
		}, listens...)
	}
	if v.Has("gateway") {
		listens = append([]namedListen{{"metrics.listen", v.Metrics.Listen}}, listens...)
	}
	v.distinct(listens)
}

// sameDatabase: accounts of devices are made by what enrollment has written.
func (v *validator) sameDatabase(m *Manager) {
	d := v.ManagerDatabase()
	if !v.Has("enrollment") || d == v.Enrollment.Database || m.Database.SQLite == "" && m.Database.Postgres == "" {
		return
	}
	e := v.Enrollment.Database
	if d.Postgres != e.Postgres || d.Postgres == "" && v.Path(d.SQLite) != v.DatabaseFile() {
		v.say("manager.database", "got another database than enrollment.database, expected the same, or none to be set")
	}
}

// managementURL of device management: its path is told to devices, too.
func (v *validator) managementURL(key, text string) {
	const what = "the https URL by which devices reach device management, such as https://dm.example.com:8443/dm"
	if text == "" {
		v.say(key, "not set, expected %s", what)
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(text) > 255 ||
		!isHost(u.Hostname()) || !plainPath(u.Path) || u.Path != u.EscapedPath() {
		v.say(key, "got %q, expected %s", clip(text), what)
	}
}

func plainPath(p string) bool {
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if part == "." || part == ".." || strings.ContainsAny(part, "{}") || part == "" && strings.Trim(p, "/") != "" {
			return false
		}
	}
	return true
}

func (v *validator) managerSessions(s *ManagerSessions) {
	const key = "manager.sessions."
	v.between(key+"max", s.Max, 1, 1<<20)
	v.between(key+"max_unproven", s.MaxUnproven, 1, max(s.Max, 1))
	v.duration(key+"idle", s.Idle, 10*time.Second, time.Hour)
	v.duration(key+"lifetime", s.Lifetime, time.Minute, 24*time.Hour)
	for _, f := range []struct {
		name    string
		got     Bytes
		atLeast Bytes
	}{{"message", s.Message, 16 << 10}, {"object", s.Object, 16 << 10}} {
		if f.got < f.atLeast || f.got > 16<<20 {
			v.say(fmt.Sprint(key, f.name), "got %d, expected 16KiB to 16MiB", f.got)
		}
	}
}

func (v *validator) managerGateways(g *ManagerGateways) {
	if (g.Certificate == "") != (g.Key == "") {
		v.say("manager.gateways.key", "got one of certificate and key, expected both or none")
	}
	if e := g.Enrollment; e.Server != "" {
		v.required("manager.gateways.enrollment.certificate", e.Certificate, "an administrator's certificate at the enrollment server")
		v.required("manager.gateways.enrollment.key", e.Key, "its key")
		if len(e.Roots) == 0 {
			v.say("manager.gateways.enrollment.roots", "not set, expected at least one PEM file with the root of the server's certificate")
		}
	}
	for _, d := range []struct {
		key   string
		got   Duration
		least time.Duration
	}{
		{"address_rest", g.AddressRest, time.Minute}, {"ticket_period", g.TicketPeriod, 10 * time.Minute},
		{"ticket_lifetime", g.TicketLifetime, time.Minute}, {"events", g.Events, time.Hour},
	} {
		if time.Duration(d.got) < d.least {
			v.say("manager.gateways."+d.key, "got %v, expected at least %v", time.Duration(d.got), d.least)
		}
	}
}
