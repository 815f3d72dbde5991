package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/access"
	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
)

// The first administrator is let in on the host, lets in others, and loses one.
func TestAdministrators(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	alice := i.ca.administrator("alice", time.Time{})
	id := identity{certificate: &alice}
	c := i.client(id)
	if a := i.do(c, id, http.MethodGet, "/v1/self", nil); a.status != http.StatusForbidden || !strings.Contains(a.problem.Hint, "gatewayd role grant certificate:alice ROLE") {
		t.Errorf("before: %v", a)
	}
	_, _, err := i.access.Grant(t.Context(), access.Subject{Kind: access.ByCertificate, Name: "alice"}, access.Server, access.Subject{Kind: access.ByHost, Name: "root"})
	i.must(err)
	if a := i.do(c, id, http.MethodPut, "/v1/roles/certificate:bob/device", nil); a.status != http.StatusOK {
		t.Fatal(a)
	}
	if a := i.do(c, id, http.MethodPost, "/v1/tokens", []byte(`{"name":"script","roles":["helpdesk"],"valid_seconds":3600}`)); a.status != http.StatusOK || !strings.Contains(string(a.octets), `"secret":"rgm_`) {
		t.Fatal(a)
	}
	bob := i.ca.administrator("bob", time.Time{})
	with := identity{certificate: &bob}
	d := i.client(with)
	if a := i.do(d, with, http.MethodPost, "/v1/tasks/lock", []byte(`{"target":{"phone":"+49-1"}}`)); a.status != http.StatusOK {
		t.Error(a)
	}
	// Revoked, it ends with the next request, on the same connection.
	if a := i.do(c, id, http.MethodDelete, "/v1/roles/certificate:bob/device", nil); a.status != http.StatusOK {
		t.Fatal(a)
	}
	if a := i.do(d, with, http.MethodGet, "/v1/devices", nil); a.status != http.StatusForbidden {
		t.Error(a)
	}
	var log []string
	for _, e := range i.log(0) {
		log = append(log, fmt.Sprintf("%s %s %s %s %q", e.Subject, e.Phase, e.Operation, e.Object, strings.Fields(e.Detail + " -")[0]))
	}
	want := []string{
		`certificate:alice refused role.whoami /v1/self "certificate:alice"`,
		`certificate:alice asked role.grant certificate:bob "role"`, `certificate:alice done role.grant certificate:bob "-"`,
		`certificate:alice asked role.token.create token:script "roles"`, `certificate:alice done role.token.create token:script "-"`,
		`certificate:bob asked task.place.lock phone +49-1 "-"`, `certificate:bob done task.place.lock phone +49-1 "task"`,
		`certificate:alice asked role.revoke certificate:bob "role"`, `certificate:alice done role.revoke certificate:bob "-"`,
		`certificate:bob refused device.list /v1/devices "certificate:bob"`,
	}
	if !slices.Equal(log, want) {
		t.Errorf("the log says\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

// A token is listed with the roles that it has, and as powerless when none is left.
func TestTokens(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	list := i.token("list", access.Auditor)
	alice := access.Subject{Kind: access.ByCertificate, Name: "alice"}
	for _, r := range []access.Role{access.Server, access.Device} {
		_, _, err := i.access.Grant(t.Context(), alice, r, access.Subject{Kind: access.ByHost, Name: "root"})
		i.must(err)
	}
	_, _, err := i.access.CreateToken(t.Context(), "alice's", access.SetOf(access.Device, access.HelpDesk), time.Hour, alice)
	i.must(err)
	shows := func(state string, roles ...string) {
		t.Helper()
		p, err := call(i, list, RoleTokenList, &Paging{})
		i.must(err)
		k := p.Items[0]
		if k.Name != "alice's" || k.State != state || !slices.Equal(k.Roles, roles) || !slices.Equal(k.Given, []string{"device", "helpdesk"}) {
			t.Errorf("%+v, want %s with %q", k, state, roles)
		}
	}
	shows("valid", "device", "helpdesk")
	for _, c := range []struct {
		lost  access.Role
		state string
		roles []string
	}{{access.Server, "valid", []string{"device"}}, {access.Device, "powerless", nil}} {
		_, err := i.access.Revoke(t.Context(), alice, c.lost)
		i.must(err)
		shows(c.state, c.roles...)
	}
	i.world.clock.add(2 * time.Hour)
	shows("expired")
}

// A device, from being looked for to its wipe that is cancelled.
func TestDevices(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("owner", access.Device)
	for _, c := range []struct {
		in   ListDevices
		want []string
	}{
		{ListDevices{}, []string{"phone-1", "phone-2", "tablet/3 %2f ü"}},
		{ListDevices{User: "bob"}, []string{"phone-2", "tablet/3 %2f ü"}},
		{ListDevices{IMEI: "35-1"}, []string{"phone-1"}},
		{ListDevices{IMSI: "262-1"}, []string{"phone-1"}},
		{ListDevices{Phone: "+49-1"}, []string{"phone-1"}},
		{ListDevices{Group: "staff", Open: true}, []string{"phone-2"}},
		{ListDevices{User: "nobody"}, nil},
	} {
		p, err := call(i, token, DeviceList, &c.in)
		i.must(err)
		var got []string
		for _, v := range p.Items {
			got = append(got, v.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", c.in, got)
		}
	}
	made, err := call(i, token, taskPlace["wipe"], &PlaceTask{NewTask{ID: "w1", Target: Target{IMEI: "35-1"}, ValidSeconds: 7200}})
	if err != nil || made.Devices != 1 || made.ID != "w1" {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = call(i, token, taskPlace["wipe"], &PlaceTask{NewTask{ID: "w1", Target: Target{IMEI: "35-1"}}})
	wantProblem(t, err, http.StatusConflict, "exists")
	if !slices.Equal(i.placed, []string{"w1"}) {
		t.Errorf("told of %q", i.placed)
	}
	d, err := call(i, token, DeviceShow, &OneDevice{"phone-1"})
	if err != nil || d.Wipe == nil || d.Wipe.State != "ordered" || !slices.Equal(d.Groups, []string{"sales"}) {
		t.Errorf("%+v, %v", d, err)
	}
	wipes, err := call(i, token, TaskWipes, &ListWipes{})
	if err != nil || len(wipes.Items) != 1 || wipes.Items[0].Task != "w1" {
		t.Errorf("%+v, %v", wipes, err)
	}
	if n, err := call(i, token, TaskCancel, &CancelTask{OneTask{"w1"}}); err != nil || n.Commands != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	of, err := call(i, token, TaskCommands, &TaskCommandsOf{OneTask: OneTask{"w1"}})
	if err != nil || len(of.Items) != 1 || of.Items[0].State != "cancelled" || of.Items[0].Done {
		t.Errorf("%+v, %v", of, err)
	}
	on, err := call(i, token, DeviceCommands, &ListCommands{OneDevice: OneDevice{"phone-1"}})
	if err != nil || !slices.Equal(on.Items, of.Items) {
		t.Errorf("%+v, %v", on, err)
	}
	_, err = call(i, token, TaskCancel, &CancelTask{OneTask{"nothing"}})
	wantProblem(t, err, http.StatusNotFound, "nothing")
	groups := &SetGroups{OneDevice: OneDevice{"phone-1"}}
	groups.Body.Groups = []string{"b", "a"}
	if v, err := call(i, token, DeviceGroups, groups); err != nil || !slices.Equal(v.Groups, []string{"a", "b"}) {
		t.Errorf("%+v, %v", v, err)
	}
	unit := &SetUnit{OneDevice: OneDevice{"phone-1"}}
	unit.Body.Unit = "corp/berlin"
	if v, err := call(i, token, DeviceUnit, unit); err != nil || v.Unit != "corp/berlin" {
		t.Errorf("%+v, %v", v, err)
	}
	unit.Body.Unit = "corp//berlin"
	_, err = call(i, token, DeviceUnit, unit)
	wantProblem(t, err, http.StatusUnprocessableEntity, "corp//berlin")
	// A change that fails is written down as one.
	head := i.head()
	groups.Device = "nobody"
	_, err = call(i, token, DeviceGroups, groups)
	wantProblem(t, err, http.StatusNotFound, "nobody")
	log := i.log(head)
	if len(log) != 2 || log[1].Phase != access.Failed || log[1].Of != log[0].Number || log[1].Status != http.StatusNotFound {
		t.Errorf("%+v", log)
	}
}

// What a device answered can be read, text and octets.
func TestAnswers(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("owner", access.HelpDesk)
	_, err := call(i, token, taskPlace["query"], &PlaceTask{NewTask{ID: "q", Target: Target{Device: "phone-1"}, Values: map[string]string{"uri": "./A ./B"}}})
	i.must(err)
	next, err := i.store.Next(t.Context(), "phone-1", nil, 1)
	i.must(err)
	_, err = i.store.Claim(t.Context(), "phone-1", []session.Claim{{Task: next[0].ID, Attempt: next[0].Attempt}})
	i.must(err)
	i.must(i.store.Record(t.Context(), "phone-1", session.Report{Outcomes: []session.Outcome{{
		Task: next[0].ID, State: session.Answered, Code: 200, Parts: []session.Part{{URI: "./A", Code: 200}, {URI: "./B", Code: 404}},
		Results: []session.Value{{URI: "./A", Data: []byte("ü")}, {URI: "./C", Data: []byte{0xff, 0}}},
	}}}))
	of, err := call(i, token, TaskCommands, &TaskCommandsOf{OneTask: OneTask{"q"}})
	i.must(err)
	if len(of.Items) != 1 || !of.Items[0].Done || of.Items[0].Code != 200 {
		t.Errorf("%+v", of)
	}
	a, err := call(i, token, TaskAnswer, &OneCommand{of.Items[0].ID})
	i.must(err)
	if len(a.Parts) != 2 || len(a.Results) != 2 || a.Results[0].Data != "ü" || a.Results[1].Data != "/wA=" || !a.Results[1].Base64 {
		t.Errorf("%+v", a)
	}
}

// Policies are applied on what was read, explained, and found again.
func TestPolicies(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("owner", access.Device)
	changed := 0
	i.options.PolicyChanged = func() { changed++ }
	i.serve()
	document := func(value string) policy.Document {
		return policy.Document{
			Sets:  []policy.Set{{Name: "a", Settings: []policy.Setting{{URI: "./A", Data: value}}}},
			Links: []policy.Link{{Unit: "corp", Set: "a", Order: 1}},
		}
	}
	plan := &PlanPolicy{}
	plan.Body.Document = document("1")
	p, err := call(i, token, PolicyPlan, plan)
	if err != nil || p.Base != 0 || p.Changed != 1 || len(p.Devices) != 1 || p.Devices[0].Device != "phone-1" {
		t.Errorf("%+v, %v", p, err)
	}
	for n := range int64(3) {
		apply := &ApplyPolicy{}
		apply.Body.Base, apply.Body.Document, apply.Body.Comment = n, document(fmt.Sprint(n)), "for a reason"
		v, err := call(i, token, PolicyApply, apply)
		if err != nil || v.Number != n+1 || v.By != "token:owner" {
			t.Errorf("%+v, %v", v, err)
		}
		_, err = call(i, token, PolicyApply, apply)
		wantProblem(t, err, http.StatusConflict, "changed")
	}
	if changed != 3 {
		t.Errorf("told %d times", changed)
	}
	e, err := call(i, token, PolicyExplain, &OneDevice{"phone-1"})
	if err != nil || e.Version != 3 || e.Result.Values[0].Setting.Data != "2" || e.Hidden {
		t.Errorf("%+v, %v", e, err)
	}
	former, err := call(i, token, PolicyShow, &OnePolicy{Version: 2})
	if err != nil || former.Document.Sets[0].Settings[0].Data != "1" {
		t.Errorf("%+v, %v", former, err)
	}
	_, err = call(i, token, PolicyShow, &OnePolicy{Version: 9})
	wantProblem(t, err, http.StatusNotFound, "no such version")
	_, err = call(i, token, PolicyExplain, &OneDevice{"nobody"})
	wantProblem(t, err, http.StatusNotFound, "no such device")
	list := &ListPolicies{Paging{Limit: 2}}
	first, err := call(i, token, PolicyVersions, list)
	i.must(err)
	list.After = first.Next
	second, err := call(i, token, PolicyVersions, list)
	i.must(err)
	var numbers []int64
	for _, v := range append(first.Items, second.Items...) {
		numbers = append(numbers, v.Number)
	}
	if !slices.Equal(numbers, []int64{3, 2, 1}) || second.Next != "" {
		t.Errorf("versions %v, then %q", numbers, second.Next)
	}
}

// The inventory and its history, in pages.
func TestInventories(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("owner", access.HelpDesk)
	for n := range 5 {
		_, err := i.keeper.Record(t.Context(), "phone-1", inventory.Update{At: i.clock.Now(), Values: []session.Value{{URI: "./DevDetail/FwV", Data: []byte(fmt.Sprint(n))}}})
		i.must(err)
	}
	v, err := call(i, token, InventoryShow, &OneDevice{"phone-1"})
	if err != nil || len(v.Nodes) != 2 || v.Nodes[0].URI != "./DevDetail/FwV" || v.Nodes[0].Data != "4" || v.Software == nil {
		t.Errorf("%+v, %v", v, err)
	}
	in := &ListChanges{OneDevice{"phone-1"}, Paging{Limit: 4}}
	first, err := call(i, token, InventoryHistory, in)
	i.must(err)
	in.After = first.Next
	second, err := call(i, token, InventoryHistory, in)
	i.must(err)
	if len(first.Items) != 4 || len(second.Items) != 2 || second.Next != "" || first.Items[0].After.Data != "4" || first.Items[0].Before.Data != "3" || second.Items[0].Before != nil {
		t.Errorf("%+v then %+v", first, second)
	}
	_, err = call(i, token, InventoryShow, &OneDevice{"nobody"})
	wantProblem(t, err, http.StatusNotFound, "nobody")
}

// Users of the host come without a token; root is a server administrator, others
// have what they were granted.
func TestLocal(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	user := "root"
	i.options.Local = func(*http.Request) (string, bool) { return user, user != "" }
	i.serve()
	c := i.client(identity{})
	status := func(method, path, content string) int {
		t.Helper()
		return i.do(c, identity{}, method, path, []byte(content)).status
	}
	if got := status(http.MethodPut, "/v1/roles/local:ann/helpdesk", ""); got != http.StatusOK {
		t.Errorf("root grants: %d", got)
	}
	if got := status(http.MethodPost, "/v1/tasks/wipe", `{"target":{"device":"phone-1"}}`); got != http.StatusForbidden {
		t.Errorf("root wipes: %d", got)
	}
	user = "ann"
	if got := status(http.MethodPost, "/v1/tasks/lock", `{"target":{"device":"phone-1"}}`); got != http.StatusOK {
		t.Errorf("ann locks: %d", got)
	}
	user = "bob"
	if got := status(http.MethodGet, "/v1/self", ""); got != http.StatusForbidden {
		t.Errorf("bob: %d", got)
	}
	user = ""
	if got := status(http.MethodGet, "/v1/self", ""); got != http.StatusUnauthorized {
		t.Errorf("from elsewhere: %d", got)
	}
	for _, e := range i.log(0)[:1] {
		if e.Subject != "local:root" || e.Source != "" {
			t.Errorf("%+v", e)
		}
	}
}

// The log is read in pages, and proves itself.
func TestAudit(t *testing.T) {
	i := newWorld(t, sqlite).instance("home")
	token := i.token("auditor", access.Auditor)
	for n := range 7 {
		_, err := call(i, token, taskPlace["wipe"], &PlaceTask{NewTask{Target: Target{Device: fmt.Sprint("phone-", n)}}})
		wantProblem(t, err, http.StatusForbidden, "task.place.wipe needs one of the roles device, security; token:auditor has auditor")
	}
	in := &ListAudit{Paging: Paging{Limit: 3}, Phase: "refused", Subject: "token:auditor"}
	var numbers []int64
	for range 4 {
		p, err := call(i, token, AuditList, in)
		i.must(err)
		for _, e := range p.Items {
			numbers = append(numbers, e.Number)
		}
		if in.After = p.Next; in.After == "" {
			break
		}
	}
	if !slices.Equal(numbers, []int64{7, 6, 5, 4, 3, 2, 1}) {
		t.Errorf("%v", numbers)
	}
	v, err := call(i, token, AuditVerify, &VerifyAudit{})
	if err != nil || !v.Intact || v.Entries != 7 || v.Number != 7 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = call(i, token, AuditVerify, &VerifyAudit{Number: 7, Hash: v.Hash}); err != nil || !v.Intact {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = call(i, token, AuditVerify, &VerifyAudit{Number: 7, Hash: strings.Repeat("0", 64)}); err != nil || v.Intact || v.Trouble == "" {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = call(i, token, AuditVerify, &VerifyAudit{Number: 7})
	wantProblem(t, err, http.StatusUnprocessableEntity, "belong together")
}
