package management

import (
	"encoding/json"
	"strings"
	"testing"
)

// sound is the evidence of a small world in which all is well: ann is connected,
// eve was revoked, bob was wiped.
func sound() *evidence {
	sections := func() map[string]sectionEvidence {
		return map[string]sectionEvidence{"devices": {"1.7", "aa", true}, "access": {"1.2", "bb", true}}
	}
	out := []attempt{{By: "gw1 certificate"}, {By: "gw1 ticket"}, {By: "management"}}
	ann := []string{"10.9.0.1"}
	return &evidence{
		Devices: map[string]*deviceEvidence{
			"ann": {Serial: "01", Had: ann, Up: true, Executed: map[string]int{"ring-1": 1, "set-1": 2}, Enrolled: true, Managed: true, Authorised: true, Addresses: ann},
			"eve": {Serial: "02", Had: []string{"10.9.0.2"}, Attempts: out},
			"bob": {Serial: "03", Had: []string{"10.9.0.3"}, Attempts: out, Wiped: 1},
		},
		Committed: sections(), Wanted: map[string]string{"devices": "1.7", "access": "1.2"},
		Gateways: map[string]*gatewayEvidence{
			"gw1": {Sections: sections(), Sessions: []sessionEvidence{{"ann", "gw1", ann}}, Leases: map[string]string{"10.9.0.1": "ann", "10.9.0.2": "eve"}},
			"gw2": {Sections: sections(), Leases: map[string]string{"10.9.0.1": "ann"}},
		},
		Certificates: map[string]certificateEvidence{"01": {"ann", false}, "02": {"eve", true}, "03": {"bob", true}},
		Listed:       []string{"03", "02"}, Pushed: []string{"02", "03"},
		Commands: []commandEvidence{
			{"ring-1", "ann", "answered", true}, {"set-1", "ann", "answered", true},
			{"wipe-1", "bob", "answered", true}, {"ring-2", "eve", "cancelled", false},
		},
		Outbox: 9, Followed: map[string]int64{"device management": 9, "gateways": 9},
		Sessions: []sessionEvidence{{"ann", "gw1", ann}},
		Acknowledged: []operation{
			{"ring", "ring-1", "ann"}, {"set", "set-1", "ann"}, {"ring", "ring-2", "eve"},
			{"revoke", "", "eve"}, {"wipe", "wipe-1", "bob"},
		},
	}
}

// mutations are lies that a judge has to find, in any sound evidence in which at
// least one device is connected and has done something once, and one is closed.
var mutations = []struct {
	name, want string
	lie        func(e *evidence, open, shut string)
}{
	{"a revoked device is connected", "is connected and may not be", func(e *evidence, _, shut string) {
		g := e.Gateways["gw1"]
		g.Sessions = append(g.Sessions, sessionEvidence{shut, "gw1", e.Devices[shut].Had})
	}},
	{"it believes so", "believes that it is connected", func(e *evidence, _, shut string) { e.Devices[shut].Up = true }},
	{"its ticket is good", "was let in by gw1 ticket", func(e *evidence, _, shut string) {
		e.Devices[shut].Attempts = append(e.Devices[shut].Attempts, attempt{"gw1 ticket", true})
	}},
	{"nobody looked whether it is let in", "hasn't tried", func(e *evidence, _, shut string) { e.Devices[shut].Attempts = nil }},
	{"it is authorised still", "what gateways are told", func(e *evidence, _, shut string) { e.Devices[shut].Authorised = true }},
	{"it is managed still", "open in device management", func(e *evidence, _, shut string) { e.Devices[shut].Managed = true }},
	{"its account is open", "open in enrollment", func(e *evidence, _, shut string) { e.Devices[shut].Enrolled = true }},
	{"its certificate isn't revoked", "which isn't revoked", func(e *evidence, _, shut string) {
		e.Certificates[e.Devices[shut].Serial] = certificateEvidence{Device: shut}
	}},
	{"the list lacks it", "on the revocation list", func(e *evidence, _, shut string) { e.Listed = without(e.Listed, e.Devices[shut].Serial) }},
	{"gateways aren't told", "told to gateways", func(e *evidence, _, shut string) { e.Pushed = without(e.Pushed, e.Devices[shut].Serial) }},
	{"too many are revoked", "on the revocation list", func(e *evidence, open, _ string) { e.Listed = append(e.Listed, e.Devices[open].Serial) }},
	{"a certificate isn't recorded", "isn't in the record", func(e *evidence, open, _ string) { delete(e.Certificates, e.Devices[open].Serial) }},
	{"a certificate that nobody got", "nobody has it", func(e *evidence, open, _ string) { e.Certificates["ffff"] = certificateEvidence{Device: open} }},
	{"an enrollment is lost", "isn't open in what gateways are told", func(e *evidence, open, _ string) { e.Devices[open].Authorised = false }},
	{"and in device management", "isn't open in device management", func(e *evidence, open, _ string) { e.Devices[open].Managed = false }},
	{"it never came to its end", "never enrolled", func(e *evidence, open, _ string) { e.Devices[open].Serial = "" }},
	{"two sessions of one device", "believes that it is connected: true, and has", func(e *evidence, open, _ string) {
		for name, g := range e.Gateways {
			g.Sessions = append(g.Sessions, sessionEvidence{open, name, e.Devices[open].Addresses})
		}
	}},
	{"an address changed", "changed", func(e *evidence, open, _ string) {
		e.Devices[open].Had = append(e.Devices[open].Had, "10.9.0.250")
	}},
	{"an address is somebody else's", "is of ", func(e *evidence, open, shut string) { e.Devices[shut].Had = e.Devices[open].Had }},
	{"another one at a gateway", "leases 10.9.0.251 to", func(e *evidence, open, _ string) {
		for _, g := range e.Gateways {
			g.Leases["10.9.0.251"] = open
		}
	}},
	{"none is assigned", "is assigned []", func(e *evidence, open, _ string) { e.Devices[open].Addresses = nil }},
	{"a command is lost", "is lost", func(e *evidence, open, _ string) {
		c := e.Commands[:0]
		for _, v := range e.Commands {
			if v.Device != open {
				c = append(c, v)
			}
		}
		e.Commands = c
	}},
	{"a command is stuck", "is stuck: waiting", func(e *evidence, open, _ string) { e.command(open).State = "waiting" }},
	{"a command says that it was done", "executed 0 times", func(e *evidence, open, _ string) { delete(e.Devices[open].Executed, e.command(open).Task) }},
	{"done twice", "was executed 2 times", func(e *evidence, open, _ string) { e.Devices[open].Executed[e.command(open).Task] = 2 }},
	{"done for nobody", "nobody has on record", func(e *evidence, open, _ string) { e.Devices[open].Executed["another"] = 1 }},
	{"another version", "section devices at gw2", func(e *evidence, _, _ string) {
		s := e.Gateways["gw2"].Sections["devices"]
		s.Version += "1"
		e.Gateways["gw2"].Sections["devices"] = s
	}},
	{"the same version of something else", "section devices at gw2", func(e *evidence, _, _ string) {
		s := e.Gateways["gw2"].Sections["devices"]
		s.Hash = "cc"
		e.Gateways["gw2"].Sections["devices"] = s
	}},
	{"not in force", "in force false", func(e *evidence, _, _ string) {
		s := e.Gateways["gw1"].Sections["access"]
		s.Applied = false
		e.Gateways["gw1"].Sections["access"] = s
	}},
	{"the manager has an older one", "the manager has section access", func(e *evidence, _, _ string) { e.Wanted["access"] = "0.1" }},
	{"the log was changed", "audit log", func(e *evidence, _, _ string) { e.Audit = "entry 7 isn't what was written" }},
	{"an event isn't followed", "is at event", func(e *evidence, _, _ string) { e.Outbox++ }},
	{"the manager believes in another session", "as the manager knows them", func(e *evidence, _, _ string) { e.Sessions = e.Sessions[1:] }},
}

// command of a device that is to be done once.
func (e *evidence) command(device string) *commandEvidence {
	for i, c := range e.Commands {
		if c.Device == device && strings.HasPrefix(c.Task, "ring-") && c.State == "answered" {
			return &e.Commands[i]
		}
	}
	return nil
}

func without(list []string, one string) (rest []string) {
	for _, s := range list {
		if s != one {
			rest = append(rest, s)
		}
	}
	return rest
}

func (e *evidence) clone(t *testing.T) *evidence {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	other := &evidence{}
	if err := json.Unmarshal(text, other); err != nil {
		t.Fatal(err)
	}
	return other
}

// lied: each lie about sound evidence is found.
func lied(t *testing.T, e *evidence) {
	t.Helper()
	if f := judge(e); len(f) > 0 {
		t.Fatalf("sound evidence: %s", strings.Join(f, "\n"))
	}
	closed, open, shut := e.shut(), "", ""
	for name := range e.Devices {
		switch {
		case closed[name] == "revoke": // its account stays
		case closed[name] != "":
			shut = name
		case e.command(name) != nil:
			open = name
		}
	}
	if open == "" || shut == "" {
		t.Fatalf("of an open device %q, of a closed one %q", open, shut)
	}
	for _, m := range mutations {
		mutant := e.clone(t)
		m.lie(mutant, open, shut)
		if f := judge(mutant); !strings.Contains(strings.Join(f, "\n"), m.want) {
			t.Errorf("%s: found %q, want %q", m.name, f, m.want)
		}
	}
}

func TestJudgeFindsLies(t *testing.T) { lied(t, sound()) }
