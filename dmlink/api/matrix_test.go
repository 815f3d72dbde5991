package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// cells of testdata/roles.txt: who may what, as people decided it. The table is
// held against it, and the API against both.
func cells(t *testing.T) (order []string, may map[string]access.Set) {
	t.Helper()
	text, err := os.ReadFile("testdata/roles.txt")
	if err != nil {
		t.Fatal(err)
	}
	may = map[string]access.Set{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		f := strings.Fields(line)
		if len(f) != 1+len(access.Roles) {
			t.Fatalf("line %q", line)
		}
		order = append(order, f[0])
		for n, r := range access.Roles {
			if f[1+n] == "x" {
				may[f[0]] |= access.SetOf(r)
			}
		}
	}
	return order, may
}

// The table of operations is what testdata/roles.txt says, which nobody changes
// by the way.
func TestRolesAreAsDecided(t *testing.T) {
	order, may := cells(t)
	var got []string
	for _, o := range table {
		got = append(got, o.ID)
		if want, ok := may[o.ID]; !ok || want != o.May {
			t.Errorf("%s: %q may, by testdata/roles.txt %q", o.ID, o.May, want)
		}
	}
	if !slices.Equal(order, got) {
		t.Errorf("rows %q\nwant %q", got, order)
	}
}

// samples are requests that work, one for each operation; where one isn't meant
// to, what it would need isn't made.
func samples(i *instance, n int) map[string]func(works bool) (method, path string, content []byte) {
	i.t.Helper()
	m := map[string]func(bool) (string, string, []byte){}
	one := OneDevice{"phone-1"}
	target := Target{Device: "phone-2"}
	sample(i, m, ServerShow, &None{})
	sample(i, m, RoleWhoami, &None{})
	sample(i, m, RoleOperations, &None{})
	sample(i, m, RoleList, &ListGrants{})
	sample(i, m, RoleGrant, &PutGrant{GrantPath{"certificate:eve", "auditor"}})
	sample(i, m, RoleRevoke, &TakeGrant{GrantPath{"certificate:eve", "auditor"}})
	sample(i, m, RoleTokenList, &Paging{})
	sample(i, m, RoleTokenCreate, &CreateToken{NewToken{Name: fmt.Sprint("made-", n), Roles: []string{"auditor"}}})
	sample(i, m, RoleTokenRevoke, &RevokeToken{"old"})
	sample(i, m, AuditList, &ListAudit{})
	sample(i, m, AuditVerify, &VerifyAudit{})
	sample(i, m, DeviceList, &ListDevices{})
	sample(i, m, DeviceShow, &one)
	sample(i, m, DeviceCommands, &ListCommands{OneDevice: one})
	sample(i, m, DeviceAlerts, &one)
	sample(i, m, DeviceMessages, &ListMessages{OneDevice: one})
	groups := &SetGroups{OneDevice: one}
	groups.Body.Groups = []string{"sales"}
	sample(i, m, DeviceGroups, groups)
	unit := &SetUnit{OneDevice: one}
	unit.Body.Unit = "corp/sales"
	sample(i, m, DeviceUnit, unit)
	sample(i, m, ScheduleShow, &one)
	sample(i, m, ScheduleSet, &SetSchedule{Group: "sales", Body: Schedule{First: 180, Retry: 900, Tries: 3, Every: 3600}})
	sample(i, m, ScheduleDelete, &DeleteSchedule{Group: "sales"})
	sample(i, m, TaskTypes, &None{})
	sample(i, m, TaskList, &Paging{})
	sample(i, m, TaskShow, &OneTask{"first"})
	sample(i, m, TaskCommands, &TaskCommandsOf{OneTask: OneTask{"first"}})
	commands, err := i.store.CommandsOfTask(i.t.Context(), "first", "", 1)
	i.must(err)
	sample(i, m, TaskAnswer, &OneCommand{commands[0].ID})
	sample(i, m, TaskCancel, &CancelTask{OneTask{"first"}})
	sample(i, m, TaskWipes, &ListWipes{})
	for name, r := range taskPlace {
		values := map[string]map[string]string{
			"add": {"uri": "./A"}, "copy": {"uri": "./A", "from": "./B"}, "delete": {"uri": "./A"}, "exec": {"uri": "./A"},
			"message": {"text": "hello"}, "query": {"uri": "./DevInfo"}, "replace": {"uri": "./A", "value": "1"},
		}[name]
		sample(i, m, r, &PlaceTask{NewTask{Target: target, Values: values}})
	}
	document := policy.Document{Sets: []policy.Set{{Name: "a", Settings: []policy.Setting{{URI: "./A", Data: "1"}}}}, Links: []policy.Link{{Unit: "corp", Set: "a", Order: 1}}}
	sample(i, m, PolicyShow, &OnePolicy{})
	sample(i, m, PolicyVersions, &ListPolicies{})
	sample(i, m, PolicyStatus, &None{})
	plan := &PlanPolicy{}
	plan.Body.Document = document
	sample(i, m, PolicyPlan, plan)
	m[PolicyApply.ID] = func(bool) (string, string, []byte) {
		apply := &ApplyPolicy{}
		apply.Body.Document = document
		v, err := i.options.Policies.Document(i.t.Context())
		i.must(err)
		apply.Body.Base = v.Number
		method, path, content, err := PolicyApply.Request(apply)
		i.must(err)
		return method, path, content
	}
	sample(i, m, PolicyExplain, &one)
	sample(i, m, InventoryShow, &one)
	sample(i, m, InventoryHistory, &ListChanges{OneDevice: one})
	fleetSamples(i, m)
	m[openapi.ID] = func(bool) (string, string, []byte) { return http.MethodGet, OpenAPIPath, nil }
	return m
}

func sample[In, Out any](i *instance, m map[string]func(bool) (string, string, []byte), r Row[In, Out], in *In) {
	i.t.Helper()
	method, path, content, err := r.Request(in)
	i.must(err)
	m[r.ID] = func(bool) (string, string, []byte) { return method, path, content }
}

// Every cell: role x operation x instance over HTTP. A token, and a certificate
// with the same role granted, may in their instance exactly what
// testdata/roles.txt says, and in another instance nothing; so do those who have
// no role, and those who are nobody.
func TestEveryCell(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, open func(testing.TB) *database.DB) { everyCell(t, newWorld(t, open)) })
}

func everyCell(t *testing.T, w *world) {
	home, away := w.instance("home"), w.instance("away")
	_, may := cells(t)
	may[openapi.ID] = access.Everybody
	operations := append(slices.Clone(table), openapi)
	for _, i := range []*instance{home, away} {
		i.token("old", access.Auditor)
	}
	_, _, err := w.store.Put(t.Context(), sampleTask("first"), "phone-1")
	w.must(err)

	type who struct {
		name string
		id   identity
		// roles that it has at home.
		roles access.Set
		// refused is the status where it may not; that away.
		refused, away int
	}
	everybody := []who{
		{"nobody", identity{}, 0, http.StatusUnauthorized, http.StatusUnauthorized},
	}
	for _, r := range access.Roles {
		name := "with-" + string(r)
		everybody = append(everybody, who{"token of " + string(r), identity{token: home.token(name, r)}, access.SetOf(r), http.StatusForbidden, http.StatusUnauthorized})
		certificate := w.ca.administrator(name, time.Time{})
		_, _, err := home.access.Grant(t.Context(), access.Subject{Kind: access.ByCertificate, Name: name}, r, access.Subject{Kind: access.ByHost, Name: "root"})
		w.must(err)
		everybody = append(everybody, who{"certificate of " + string(r), identity{certificate: &certificate}, access.SetOf(r), http.StatusForbidden, http.StatusForbidden})
	}
	roleless := w.ca.administrator("roleless", time.Time{})
	everybody = append(everybody, who{"certificate without a role", identity{certificate: &roleless}, 0, http.StatusForbidden, http.StatusForbidden})

	allowed, refused := 0, 0
	for n, v := range everybody {
		for _, i := range []*instance{home, away} {
			c := i.client(v.id)
			requests := samples(i, n)
			for _, o := range operations {
				request, ok := requests[o.ID]
				if !ok {
					t.Fatalf("no sample of %s", o.ID)
				}
				before := i.head()
				want := http.StatusOK
				switch {
				case i == away:
					want = v.away
				case !v.roles.Meets(may[o.ID]):
					want = v.refused
				}
				method, path, content := request(want == http.StatusOK)
				a := i.do(c, v.id, method, path, content)
				if a.status != want {
					t.Errorf("%s in %s: %s is answered %v, want %d", v.name, i.access.Instance(), o.ID, a, want)
					continue
				}
				if want == http.StatusOK {
					allowed++
				} else {
					refused++
				}
				checkLog(t, i, o, before, want)
			}
		}
	}
	if want := len(everybody) * len(operations) * 2; allowed+refused != want || allowed == 0 {
		t.Errorf("%d allowed and %d refused of %d cells", allowed, refused, want)
	}
	t.Logf("%d operations, %d identities, 2 instances: %d cells, %d allowed", len(operations), len(everybody), allowed+refused, allowed)
	for _, i := range []*instance{home, away} {
		if _, err := i.access.Verify(t.Context(), 0, nil); err != nil {
			t.Error(err)
		}
	}
}

// checkLog: what the audit log has to say of a request.
func checkLog(t *testing.T, i *instance, o *Operation, before int64, status int) {
	t.Helper()
	var phases []string
	for _, e := range i.log(before) {
		phases = append(phases, string(e.Phase))
		if e.Operation != o.ID || e.Source != "127.0.0.1" {
			t.Errorf("%s: entry %+v", o.ID, e)
		}
	}
	want := []string{}
	switch {
	case status != http.StatusOK:
		want = []string{"refused"}
	case o.Recorded == Changes:
		want = []string{"asked", "done"}
	case o.Recorded == Looks:
		want = []string{"looked"}
	}
	if !slices.Equal(phases, want) && len(phases)+len(want) > 0 {
		t.Errorf("%s, answered %d: the audit log says %q, want %q", o.ID, status, phases, want)
	}
}

// Whoever shows something that is no good is refused everywhere, and it doesn't
// matter what else they show.
func TestNoGood(t *testing.T) {
	w := newWorld(t, sqlite)
	home, away := w.instance("home"), w.instance("away")
	home.token("old", access.Auditor)
	_, _, err := w.store.Put(t.Context(), sampleTask("first"), "phone-1")
	w.must(err)
	all := access.Roles
	good := home.token("good", all...)
	revoked := home.token("revoked", all...)
	_, err = home.access.RevokeToken(t.Context(), "revoked")
	w.must(err)
	_, short, err := home.access.CreateToken(t.Context(), "short", access.Everybody, time.Minute, access.Subject{})
	w.must(err)
	w.clock.add(2 * time.Minute)
	stranger := newAuthority(t, "administrators").administrator("alice", time.Time{})
	late := w.ca.administrator("alice", time.Now().Add(-time.Minute))
	gone := w.ca.administrator("revoked", time.Time{})
	alice := w.ca.administrator("alice", time.Time{})
	for _, r := range all {
		for _, name := range []string{"alice", "revoked"} {
			_, _, err := home.access.Grant(t.Context(), access.Subject{Kind: access.ByCertificate, Name: name}, r, access.Subject{})
			w.must(err)
		}
	}
	requests := samples(home, 0)
	for name, id := range map[string]identity{
		"revoked token":                     {token: revoked},
		"expired token":                     {token: short.Reveal()},
		"token of another instance":         {token: away.token("good", all...)},
		"token with another secret":         {token: good[:len(good)-6] + "AAAAAA"},
		"token with another ID":             {token: good[:6] + "AAAA" + good[10:]},
		"cut token":                         {token: good[:len(good)-1]},
		"token and more":                    {token: good + "A"},
		"certificate of somebody else's CA": {certificate: &stranger},
		"expired certificate":               {certificate: &late},
		"revoked certificate":               {certificate: &gone},
		"good certificate, bad token":       {token: revoked, certificate: &alice},
	} {
		c := home.client(id)
		for _, o := range table {
			method, path, content := requests[o.ID](false)
			if a := home.do(c, id, method, path, content); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s: %s is answered %v", name, o.ID, a)
			}
		}
	}
	for name, id := range map[string]identity{"good token": {token: good}, "good certificate": {certificate: &alice}} {
		if a := home.do(home.client(id), id, http.MethodGet, "/v1/self", nil); a.status != http.StatusOK {
			t.Errorf("%s: %v", name, a)
		}
	}
	tasks, err := w.store.Tasks(t.Context(), sampleTask(""), 10)
	w.must(err)
	if len(tasks) > 1 {
		t.Errorf("somebody placed tasks: %+v", tasks)
	}
}

// What is registered are the rows and nothing else; each change can say what it
// changes; the OpenAPI document has all of it.
func TestTableIsTheAPI(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	var want []string
	ids, patterns := map[string]bool{}, map[string]bool{}
	for _, o := range append(slices.Clone(table), openapi) {
		pattern := o.Method + " " + o.Path
		want = append(want, pattern)
		if ids[o.ID] || patterns[pattern] {
			t.Errorf("%s (%s) is there twice", o.ID, pattern)
		}
		ids[o.ID], patterns[pattern] = true, true
		if o.May == access.Nobody || o.Summary == "" {
			t.Errorf("%s: %+v", o.ID, o)
		}
		if o == openapi {
			continue
		}
		if _, ok := newIn(o).(Changer); ok != (o.Recorded == Changes) {
			t.Errorf("%s is recorded as %s, and what comes in is %s", o.ID, o.Recorded, o.in)
		}
		if o.Method != http.MethodGet && o.Recorded != Changes && o.ID != PolicyPlan.ID {
			t.Errorf("%s changes something and isn't recorded so", o.ID)
		}
	}
	got := slices.Clone(i.api.patterns)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("registered %q\nwant %q", got, want)
	}
	a := i.do(i.client(identity{}), identity{token: i.token("t", access.Auditor)}, http.MethodGet, OpenAPIPath, nil)
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Description string `json:"description"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(a.octets, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("OpenAPI %q: %v", doc.OpenAPI, err)
	}
	for _, o := range table {
		if p := doc.Paths[o.Path][strings.ToLower(o.Method)]; p.OperationID != o.ID || !strings.Contains(p.Description, o.May.String()) {
			t.Errorf("%s in the document: %+v", o.ID, p)
		}
	}
}

// An operation without a handler, or a type of tasks without a row, isn't
// served.
func TestMissingRows(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	o := i.options
	types := o.Desk.Types()
	types.Add(taskType("firmware"))
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "task.place.firmware (no row)") {
		t.Errorf("a type without a row: %v", err)
	}
	delete(types, "firmware")
	former := table
	defer func() { table = former }()
	row[None, Done]("device.polish", "POST /v1/polish", device, Refusals, "Polish devices")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "device.polish") {
		t.Errorf("a row without a handler: %v", err)
	}
	table = former
	if _, err := New(o); err != nil {
		t.Error(err)
	}
}
