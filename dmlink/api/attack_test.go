package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/policy"
)

// Paths that mean something else to somebody else lead nowhere, and never past
// the guard.
func TestAttackPaths(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	helper := identity{token: i.token("helper", access.HelpDesk)}
	c := i.client(helper)
	for _, path := range []string{
		"/v1/tasks/lock/../wipe", "/v1/tasks/%2e%2e/tasks/wipe", "//v1/tasks/wipe", "/v1//tasks/wipe", "/V1/tasks/wipe", "/v1/tasks/wipe/",
		"/v1/tasks/wipe;x=lock", "/v1/tasks/wipe%00", "/v1/tasks%2fwipe", "/v1/tasks/lock/..%2fwipe", "/v1/tasks/wipe?type=lock", "/v1/tasks/wipe#lock",
	} {
		a := i.do(c, helper, http.MethodPost, path, []byte(`{"target":{"device":"phone-1"}}`))
		if a.status < 300 {
			t.Errorf("%s: %v", path, a)
		}
		if to := a.header.Get("Location"); strings.Contains(to, "//") {
			t.Errorf("%s leads to %s", path, to)
		}
	}
	// Names with what paths are made of are names.
	reader := identity{token: i.token("reader", access.Device)}
	c = i.client(reader)
	for name, want := range map[string]int{"tablet/3 %2f ü": 200, "../../v1/audit": 404, "phone-1/../phone-2": 404, "phone-1\x00": 422, strings.Repeat("x", 301): 422, "\xff": 422} {
		method, path, _, err := DeviceShow.Request(&OneDevice{name})
		i.must(err)
		if a := i.do(c, reader, method, path, nil); a.status != want {
			t.Errorf("device %.20q (%s): %v", name, path, a)
		}
	}
	for _, name := range []string{"", ".", ".."} {
		if _, path, _, err := DeviceShow.Request(&OneDevice{name}); err == nil {
			t.Errorf("device %q is asked for at %s", name, path)
		}
	}
	if list, err := i.store.Tasks(t.Context(), sampleTask(""), 1); err != nil || len(list) != 0 {
		t.Errorf("tasks %+v, %v", list, err)
	}
}

// What comes in is bounded and strict.
func TestAttackBodies(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	owner := identity{token: i.token("owner", access.Roles...)}
	c := i.client(owner)
	huge := []byte(`{"target":{"device":"` + strings.Repeat("x", smallBody) + `"}}`)
	deep := bytes.Repeat([]byte(`{"target":`), 20_000)
	for name, v := range map[string]struct {
		method, path, content string
		want                  []int
	}{
		"unknown field":          {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1"},"roles":["server"]}`, []int{422}},
		"unknown field below":    {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1","all":true}}`, []int{422}},
		"wrong type":             {"POST", "/v1/tasks/lock", `{"target":"phone-1"}`, []int{422}},
		"no body":                {"POST", "/v1/tasks/lock", ``, []int{400}},
		"no JSON":                {"POST", "/v1/tasks/lock", `target=phone-1`, []int{400}},
		"null":                   {"POST", "/v1/tasks/lock", `null`, []int{422}},
		"huge":                   {"POST", "/v1/tasks/lock", string(huge), []int{413}},
		"deep":                   {"POST", "/v1/tasks/lock", string(deep), []int{400, 413}},
		"nobody meant":           {"POST", "/v1/tasks/lock", `{"target":{}}`, []int{422}},
		"two meant":              {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1","group":"sales"}}`, []int{422}},
		"for ever":               {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1"},"valid_seconds":9223372036854775807}`, []int{422}},
		"wipe of a group":        {"POST", "/v1/tasks/wipe", `{"target":{"group":"sales"}}`, []int{422}},
		"unknown parameter":      {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1"},"values":{"colour":"red"}}`, []int{422}},
		"unknown query":          {"GET", "/v1/devices?admin=true", ``, []int{422}},
		"limit of none":          {"GET", "/v1/devices?limit=0", ``, []int{422}},
		"limit of all":           {"GET", "/v1/devices?limit=1000000", ``, []int{422}},
		"limit of no number":     {"GET", "/v1/devices?limit=x", ``, []int{422}},
		"cursor of no number":    {"GET", "/v1/audit?after=x", ``, []int{422}},
		"cursor below zero":      {"GET", "/v1/audit?after=-1", ``, []int{422}},
		"cursor of tasks":        {"GET", "/v1/tasks?after=x", ``, []int{422}},
		"cursor of roles":        {"GET", "/v1/roles?after=x", ``, []int{422}},
		"role that isn't":        {"PUT", "/v1/roles/certificate:eve/king", ``, []int{422}},
		"role for nobody":        {"PUT", "/v1/roles/eve/server", ``, []int{422}},
		"role for a token":       {"PUT", "/v1/roles/token:owner/server", ``, []int{422}},
		"token of no role":       {"POST", "/v1/tokens", `{"name":"x","roles":["king"]}`, []int{422}},
		"token for ever":         {"POST", "/v1/tokens", `{"name":"x","roles":["server"],"valid_seconds":34560001}`, []int{422}},
		"policy on nothing":      {"PUT", "/v1/policy", `{"base":7,"document":{"sets":[]}}`, []int{409}},
		"policy of no set":       {"PUT", "/v1/policy", `{"base":0,"document":{"sets":[],"links":[{"unit":"","set":"x","order":1}]}}`, []int{422}},
		"group of no name":       {"PUT", "/v1/devices/phone-1/groups", `{"groups":["a\u0000b"]}`, []int{422}},
		"group of an empty name": {"PUT", "/v1/devices/phone-1/groups", `{"groups":[""]}`, []int{422}},
		"query of no text":       {"GET", "/v1/devices?user=%00", ``, []int{422}},
		"query of no UTF-8":      {"GET", "/v1/devices?user=%ff", ``, []int{422}},
		"values of no text":      {"POST", "/v1/tasks/lock", `{"target":{"device":"phone-1"},"values":{"uri\u0000":"./A"}}`, []int{422}},
		"schedule of a second":   {"PUT", "/v1/schedules?group=sales", `{"first":1,"retry":2,"tries":0,"every":1,"jitter":0}`, []int{422}},
		"schedule of centuries":  {"PUT", "/v1/schedules?group=sales", `{"first":180,"retry":900,"tries":0,"every":9223372036854775807,"jitter":0}`, []int{422}},
		"other method":           {"DELETE", "/v1/audit", ``, []int{405}},
		"change of the log":      {"PUT", "/v1/audit", `{}`, []int{405}},
		"entry of the log":       {"DELETE", "/v1/audit/1", ``, []int{404}},
	} {
		a := i.do(c, owner, v.method, v.path, []byte(v.content))
		if !slices.Contains(v.want, a.status) {
			t.Errorf("%s: %.300v, want %d", name, a, v.want)
		}
	}
	if list, err := i.store.Tasks(t.Context(), sampleTask(""), 1); err != nil || len(list) != 0 {
		t.Errorf("tasks %+v, %v", list, err)
	}
	if v, err := i.options.Policies.Document(t.Context()); err != nil || v.Number != 0 {
		t.Errorf("policies %+v, %v", v, err)
	}
}

// Another site's page in a browser that has an administrator's certificate
// changes nothing.
func TestAttackOtherSites(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	alice := i.ca.administrator("alice", time.Time{})
	_, _, err := i.access.Grant(t.Context(), access.Subject{Kind: access.ByCertificate, Name: "alice"}, access.Device, access.Subject{})
	i.must(err)
	c := i.client(identity{certificate: &alice})
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url+"/v1/tasks/lock", strings.NewReader(`{"target":{"device":"phone-1"}}`))
		i.must(err)
		r.Header.Set(header, value)
		r.Header.Set("Content-Type", "text/plain")
		if a := i.send(c, r); a.status != http.StatusForbidden {
			t.Errorf("%s: %v", header, a)
		}
	}
}

// Two words for who it is are none.
func TestAttackHeaders(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	good := "Bearer " + i.token("good", access.Auditor)
	for name, values := range map[string][]string{
		"two":         {good, good},
		"basic":       {"Basic YTpi"},
		"no scheme":   {strings.TrimPrefix(good, "Bearer ")},
		"empty":       {""},
		"empty token": {"Bearer "},
		"long":        {"Bearer " + strings.Repeat("A", 10_000)},
		"two in one":  {good + ", " + good},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/v1/self", nil)
		i.must(err)
		r.Header["Authorization"] = values
		if a := i.send(i.client(identity{}), r); a.status != http.StatusUnauthorized || strings.Contains(string(a.octets), "AAAA") {
			t.Errorf("%s: %v", name, a)
		}
	}
	// Method and path are those of the request line.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/v1/tokens", nil)
	i.must(err)
	r.Header.Set("Authorization", strings.Replace(good, "Bearer", "bearer", 1)) // RFC 9110 section 11.1: case doesn't matter
	r.Header.Set("X-HTTP-Method-Override", "POST")
	r.Header.Set("X-Forwarded-For", "192.0.2.77")
	if a := i.send(i.client(identity{}), r); a.status != http.StatusOK {
		t.Errorf("%v", a)
	}
	for _, e := range i.log(0) {
		if e.Source != "127.0.0.1" {
			t.Errorf("the log believes a header: %+v", e)
		}
	}
}

// Guessing is bounded, and so is what it writes; who is right isn't held up by
// somebody who isn't.
func TestGuessing(t *testing.T) {
	w := newWorld(t, sqlite)
	w.clock.step = 0
	i := w.instance("home")
	good := identity{token: i.token("good", access.Auditor)}
	bad := identity{token: good.token[:len(good.token)-4] + "AAAA"}
	c := i.client(good)
	var slow answer
	for range 3 * refusals {
		if a := i.do(c, bad, http.MethodGet, "/v1/self", nil); a.status == http.StatusTooManyRequests {
			slow = a
		} else if a.status != http.StatusUnauthorized {
			t.Fatal(a)
		}
	}
	if slow.status == 0 || slow.header.Get("Retry-After") != "5" {
		t.Errorf("slowed down: %v %v", slow, slow.header)
	}
	if n := len(i.log(0)); n != refusals {
		t.Errorf("%d entries of %d guesses", n, 3*refusals)
	}
	if a := i.do(c, good, http.MethodGet, "/v1/self", nil); a.status != http.StatusOK {
		t.Errorf("beside them: %v", a)
	}
	// Of one who is known, too: it is theirs alone.
	for range refusals + 1 {
		slow = i.do(c, good, http.MethodPost, "/v1/tasks/wipe", []byte(`{}`))
	}
	if slow.status != http.StatusTooManyRequests {
		t.Errorf("%v", slow)
	}
	if a := i.do(c, good, http.MethodGet, "/v1/self", nil); a.status != http.StatusOK {
		t.Errorf("what they may: %v", a)
	}
	w.clock.add(refusalEvery)
	if a := i.do(c, bad, http.MethodGet, "/v1/self", nil); a.status != http.StatusUnauthorized {
		t.Errorf("later: %v", a)
	}
}

// Strangers from everywhere don't fill the log, nor the memory.
func TestManyStrangers(t *testing.T) {
	l := limiter{until: map[string]time.Time{}}
	now := time.Now()
	let := 0
	for n := range 100_000 {
		if l.refuse(now, fmt.Sprint(n), true) == 0 {
			let++
		}
	}
	if let != strangers || len(l.until) > maxLimited+1 {
		t.Errorf("%d are written down, %d remembered", let, len(l.until))
	}
	if l.refuse(now, "token:known", false) != 0 {
		t.Error("one who is known pays for strangers")
	}
	if l.refuse(now.Add(strangerEvery), "somebody", true) != 0 {
		t.Error("later there is no room either")
	}
}

// Without the log nothing happens.
func TestNothingUnrecorded(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("owner", access.Roles...)
	_, err := i.db.ExecContext(t.Context(), `ALTER TABLE dm_access_audit RENAME TO elsewhere`)
	i.must(err)
	_, err = call(i, token, taskPlace["lock"], &PlaceTask{NewTask{Target: Target{Device: "phone-1"}}})
	wantProblem(t, err, http.StatusServiceUnavailable, "database")
	_, err = call(i, token, DeviceMessages, &ListMessages{OneDevice: OneDevice{"phone-1"}})
	wantProblem(t, err, http.StatusServiceUnavailable, "database")
	if _, err := call(i, token, DeviceShow, &OneDevice{"phone-1"}); err != nil {
		t.Error(err)
	}
	if list, err := i.store.Tasks(t.Context(), sampleTask(""), 1); err != nil || len(list) != 0 {
		t.Errorf("tasks %+v, %v", list, err)
	}
	_, err = i.db.ExecContext(t.Context(), `ALTER TABLE elsewhere RENAME TO dm_access_audit`)
	i.must(err)
	if _, err := i.access.Verify(t.Context(), 0, nil); err != nil {
		t.Error(err)
	}
}

// The help desk sees what happens and not what is secret in it.
func TestHiddenValues(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	owner, helper, auditor := i.token("owner", access.Device), i.token("helper", access.HelpDesk), i.token("auditor", access.Auditor)
	const secret = "correct horse battery"
	placed, err := call(i, owner, taskPlace["replace"], &PlaceTask{NewTask{Target: Target{Device: "phone-1"}, Values: map[string]string{"uri": "./A", "value": secret}}})
	i.must(err)
	apply := &ApplyPolicy{}
	apply.Body.Document = policy.Document{
		Sets:  []policy.Set{{Name: "wifi", Settings: []policy.Setting{{URI: "./Wifi", Data: secret, After: policy.Leave, Leave: secret}}}, {Name: "lost", Settings: []policy.Setting{{URI: "./Wifi", Data: secret + "2"}}}},
		Links: []policy.Link{{Unit: "corp", Set: "wifi", Order: 1}, {Unit: "corp", Set: "lost", Order: 2}},
	}
	_, err = call(i, owner, PolicyApply, apply)
	i.must(err)
	for token, sees := range map[string]bool{owner: true, helper: false} {
		k, err := call(i, token, TaskShow, &OneTask{placed.ID})
		i.must(err)
		e, err := call(i, token, PolicyExplain, &OneDevice{"phone-1"})
		i.must(err)
		text, err := json.Marshal([]any{k, e})
		i.must(err)
		if strings.Contains(string(text), secret) != sees || e.Hidden == sees || k.Values["uri"] != "./A" || len(e.Result.Values) != 1 {
			t.Errorf("sees %v: %s", sees, text)
		}
	}
	list, err := call(i, auditor, TaskList, &Paging{})
	i.must(err)
	log, err := call(i, auditor, AuditList, &ListAudit{})
	i.must(err)
	text, err := json.Marshal([]any{list, log})
	i.must(err)
	if strings.Contains(string(text), secret) || len(log.Items) != 4 {
		t.Errorf("auditors see %s", text)
	}
	d, err := call(i, auditor, DeviceShow, &OneDevice{"phone-1"})
	if err != nil || d.Info != nil {
		t.Errorf("%+v, %v", d, err)
	}
}

// What stands in the wrong field may be a secret: it isn't written down, be it in
// what was asked for or in why that was refused.
func TestMistypedValues(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	owner, auditor := i.token("owner", access.Device), i.token("auditor", access.Auditor)
	const secret = "hunter2"
	mistyped := []struct {
		kind   string
		values map[string]string
	}{
		{"replace", map[string]string{"uri": secret, "value": "./A"}},
		{"replace", map[string]string{"uri": "./A", "vlaue": secret}},
		{"replace", map[string]string{"uri": "./A", secret: ""}},
		{"replace", map[string]string{"uri": "./A", "format": secret}},
		{"replace", map[string]string{"uri": "./A", "type": secret, "value": "x"}},
		{"replace", map[string]string{"uri": "./A", "format": "int", "value": secret}},
		{"replace", map[string]string{"uri": "/" + secret}},
		{"query", map[string]string{"uri": "./A " + secret}},
		{"copy", map[string]string{"uri": "./A", "from": secret}},
		{"wipe", map[string]string{"mode": secret}},
	}
	for _, m := range mistyped {
		_, err := call(i, owner, taskPlace[m.kind], &PlaceTask{NewTask{Target: Target{Device: "phone-1"}, Values: m.values}})
		if err != nil && !strings.Contains(err.Error(), "invalid task") {
			t.Errorf("%v: %v", m.values, err)
		}
	}
	_, err := call(i, owner, taskPlace["replace"], &PlaceTask{NewTask{
		Target: Target{Device: "phone-1"}, Values: map[string]string{"uri": "./A/B", "value": "x", "format": "chr", "type": "text/plain"},
	}})
	i.must(err)
	log, err := call(i, auditor, AuditList, &ListAudit{Oldest: true})
	i.must(err)
	text, err := json.Marshal(log)
	i.must(err)
	if strings.Contains(string(text), secret) || len(log.Items) != 2*(len(mistyped)+1) {
		t.Errorf("%d entries: %s", len(log.Items), text)
	}
	if got := log.Items[2*len(mistyped)].Detail; got != "format=chr, type=text/plain, uri=./A/B, value=(hidden)" {
		t.Errorf("what isn't secret is written as %q", got)
	}
}

// A node of one's own choice in place of the one that locks would be a wipe by
// the help desk, of a whole group at once.
func TestLockIsNoWipe(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	const wipe = "./Vendor/MSFT/RemoteWipe/doWipe"
	for role, may := range map[access.Role]bool{access.HelpDesk: false, access.Security: false, access.Device: true} {
		token := i.token(string(role), role)
		for _, name := range []string{"lock", "activate", "deactivate"} {
			if !taskPlace[name].May.Has(role) {
				continue
			}
			for _, target := range []Target{{Device: "phone-2"}, {Group: "sales"}} {
				head := i.head()
				placed, err := call(i, token, taskPlace[name], &PlaceTask{NewTask{Target: target, Values: map[string]string{"uri": wipe}}})
				if may {
					if err != nil {
						t.Errorf("%s by %s: %v", name, role, err)
					}
					continue
				}
				if wantProblem(t, err, http.StatusForbidden, "another node"); placed.ID != "" {
					t.Errorf("%s by %s: placed %s", name, role, placed.ID)
				}
				if log := i.log(head); len(log) != 2 || log[1].Phase != access.Failed || log[1].Status != http.StatusForbidden {
					t.Errorf("%s by %s: the log says %+v", name, role, log)
				}
			}
			for _, p := range i.options.Desk.Types()[name].Parameters {
				if _, err := call(i, token, taskPlace[name], &PlaceTask{NewTask{Target: Target{Device: "phone-2"}, Values: map[string]string{p.Name: p.Default}}}); err != nil {
					t.Errorf("%s by %s with %s: %v", name, role, p.Default, err)
				}
			}
		}
	}
}
