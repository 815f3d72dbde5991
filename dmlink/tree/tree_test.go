package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func uri(t testing.TB, s string) URI {
	t.Helper()
	u, err := ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestURI(t *testing.T) {
	for s, want := range map[string]string{
		".":                               ".",
		"./A":                             "./A",
		"A":                               "./A",
		"A/B":                             "./A/B",
		"./A/B.C":                         "./A/B.C",
		"./A/%2F":                         "./A/%2F",
		"./Vendor/MSFT/Grüße":             "./Vendor/MSFT/Grüße",
		"./A?prop=ACL":                    "./A?prop=ACL",
		".?prop=ACL":                      ".?prop=ACL",
		"./A?list=StructData":             "./A?list=StructData",
		"./A/" + strings.Repeat("x", 500): "./A/" + strings.Repeat("x", 500),
	} {
		u, err := ParseURI(s)
		if err != nil || u.String() != want {
			t.Errorf("%q is %q, %v, want %q", s, u, err, want)
		}
	}
	for _, s := range []string{
		"", "/", "/A", "./", "./A/", "A//B", "./A/./B", "./A/../B", "..", "*", "./A/*", "./A?", "./A?prop", "./A?prop=", "./A?x=y",
		"./A?prop=a&list=b", "./A?prop=a?b", "./A\n", "./\x00", "./\xff", "./" + strings.Repeat("x", 1100), strings.Repeat("a/", 40) + "a",
	} {
		if u, err := ParseURI(s); !errors.Is(err, ErrURI) {
			t.Errorf("%q is %q, %v", s, u, err)
		}
	}
	if a := uri(t, "./A/B"); !a.Below(uri(t, "./A")) || !a.Below(uri(t, ".")) || a.Below(uri(t, "./A/B/C")) || a.Below(uri(t, "./X")) || !same(a, uri(t, "A/B")) {
		t.Error("below")
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{".", "./A", "A/B", "./A?prop=ACL", "./A?list=Struct", "./Vendor/MSFT/%2F", "//", "./*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || !same(again, u) {
			t.Fatalf("%q is %q, which is %q, %v", s, u, again, err)
		}
	})
}

func TestACL(t *testing.T) {
	for s, want := range map[string]string{
		"":                                      "",
		"Get=*":                                 "Get=*",
		"Get=*&Add=a+b":                         "Add=a+b&Get=*",
		"Replace=a+*+b":                         "Replace=*",
		"Add=www.sonera.fi-8765&Replace=321_":   "Add=www.sonera.fi-8765&Replace=321_",
		"Exec=a&Delete=b&Get=c&Add=d&Replace=":  "error",
		"Copy=*":                                "error",
		"Get=*&Get=a":                           "error",
		"Get":                                   "error",
		"Get=a b":                               "error",
		"Get=a=b":                               "error",
		"Get=a++b":                              "error",
		"Get=" + strings.Repeat("a+", 40) + "a": "error",
	} {
		acl, err := parseACL(s)
		got := acl.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", s, got, err, want)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add("Add=a+b&Get=*")
	f.Add("Replace=a+*+b&Delete=x")
	f.Fuzz(func(t *testing.T, s string) {
		acl, err := parseACL(s)
		if err != nil {
			return
		}
		if again, err := parseACL(acl.String()); err != nil || again.String() != acl.String() {
			t.Fatalf("%q is %q, which is %q, %v", s, acl, again, err)
		}
	})
}

// grown is a tree with a bit of everything.
func grown(t *testing.T) *Tree {
	t.Helper()
	tr := New(Limits{Nodes: 40, ValueOctets: 100, NameOctets: 20})
	for _, n := range []struct {
		uri  string
		node Node
	}{
		{"./DevInfo/DevId", Node{Value: Value{Data: []byte("dev")}, Permanent: true, Verbs: []syncml.Verb{syncml.Get}}},
		{"./A/B/C", Node{Value: Value{Data: []byte("c"), Type: "text/plain"}}},
		{"./A/D", Node{Value: Value{Format: "int", Data: []byte("4")}}},
		{"./Secret", Node{Value: Value{Data: []byte("s")}, Verbs: []syncml.Verb{syncml.Replace}}},
		{"./Run", Node{Exec: func(time.Time, []byte) int { return syncml.StatusAccepted }}},
		{"./Clock", Node{OnGet: func(now time.Time) []byte { return []byte(now.Format(time.TimeOnly)) }}},
		{"./Picky", Node{OnChange: func(v Value) int {
			if string(v.Data) != "good" {
				return syncml.StatusConflict
			}
			return syncml.StatusOK
		}}},
		{"./Mine/Leaf", Node{Value: Value{Data: []byte("l")}}},
	} {
		if code := tr.Put(n.uri, n.node, noon); code != syncml.StatusOK {
			t.Fatalf("%s: %d", n.uri, code)
		}
	}
	// Server one alone may change what lies in Mine; others may read it.
	if code := tr.Replace("one", uri(t, "./Mine?prop=ACL"), Value{Data: []byte("Add=one&Replace=one&Delete=one&Get=*")}, noon); code != syncml.StatusOK {
		t.Fatal(code)
	}
	return tr
}

func dump(t *testing.T, tr *Tree) string {
	t.Helper()
	entries, code := tr.Get("one", URI{List: "StructData"}, noon)
	if code != syncml.StatusOK {
		t.Fatal(code)
	}
	var b strings.Builder
	for _, e := range entries {
		version, _ := tr.Get("one", uri(t, e.URI+"?prop=VerNo"), noon)
		acl, _ := tr.Get("one", uri(t, e.URI+"?prop=ACL"), noon)
		fmt.Fprintf(&b, "%s %s %s %q %s %s\n", e.URI, e.Value.Format, e.Value.Type, e.Value.Data, version[0].Value.Data, acl[0].Value.Data)
	}
	return b.String()
}

// Each command and its statuses (OMA-TS-DM_RepPro-V1_2_1 section 6.6). What
// fails changes nothing, and neither does what is rolled back.
func TestCommands(t *testing.T) {
	v := func(data string) Value { return Value{Data: []byte(data)} }
	for _, c := range []struct {
		name   string
		server string
		do     func(tr *Tree, server string) int
		want   int
	}{
		{"add", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/New"), v("1"), noon) }, 200},
		{"add an interior node", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/New"), Value{Format: FormatNode}, noon) }, 200},
		{"add an interior node with data", "x", func(tr *Tree, s string) int {
			return tr.Add(s, uri(t, "./A/New"), Value{Format: FormatNode, Data: []byte("x")}, noon)
		}, 400},
		{"add what is there", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/D"), v("1"), noon) }, 418},
		{"add the root", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "."), v("1"), noon) }, 418},
		{"add without a parent", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/No/New"), v("1"), noon) }, 404},
		{"add below a leaf", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/D/New"), v("1"), noon) }, 405},
		{"add a property", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A?prop=Title"), v("1"), noon) }, 405},
		{"add without the right", "two", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./Mine/New"), v("1"), noon) }, 425},
		{"add with the right", "one", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./Mine/New"), v("1"), noon) }, 200},
		{"add a long name", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/"+strings.Repeat("n", 21)), v("1"), noon) }, 414},
		{"add a large value", "x", func(tr *Tree, s string) int { return tr.Add(s, uri(t, "./A/New"), v(strings.Repeat("n", 101)), noon) }, 413},

		{"replace", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/D"), v("5"), noon) }, 200},
		{"replace what isn't there", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/No"), v("5"), noon) }, 404},
		{"replace an interior node", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A"), v("5"), noon) }, 405},
		{"replace what is read-only", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./DevInfo/DevId"), v("5"), noon) }, 405},
		{"replace without the right", "two", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./Mine/Leaf"), v("5"), noon) }, 425},
		{"replace by a large value", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/D"), v(strings.Repeat("n", 101)), noon) }, 413},
		{"replace by what the node doesn't like", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./Picky"), v("bad"), noon) }, 409},
		{"replace by what it likes", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./Picky"), v("good"), noon) }, 200},
		{"replace a list", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A?list=Struct"), v("5"), noon) }, 405},

		{"delete", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./A/D"), noon) }, 200},
		{"delete with all below", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./A"), noon) }, 200},
		{"delete what isn't there", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./No"), noon) }, 404},
		{"delete the root", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "."), noon) }, 405},
		{"delete what is permanent", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./DevInfo/DevId"), noon) }, 405},
		{"delete around what is permanent", "x", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./DevInfo"), noon) }, 405},
		{"delete without the right", "two", func(tr *Tree, s string) int { return tr.Delete(s, uri(t, "./Mine/Leaf"), noon) }, 425},

		{"exec", "x", func(tr *Tree, s string) int { return tr.Exec(s, uri(t, "./Run"), nil, noon) }, 202},
		{"exec what isn't there", "x", func(tr *Tree, s string) int { return tr.Exec(s, uri(t, "./No"), nil, noon) }, 404},
		{"exec what can't be", "x", func(tr *Tree, s string) int { return tr.Exec(s, uri(t, "./A/D"), nil, noon) }, 405},

		{"copy", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./A/D"), uri(t, "./A/E"), noon) }, 200},
		{"copy with all below", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./A"), uri(t, "./Z"), noon) }, 200},
		{"copy into itself", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./A"), uri(t, "./A/B/Z"), noon) }, 405},
		{"copy over what is there", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./A/D"), uri(t, "./A/B"), noon) }, 418},
		{"copy what isn't there", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./No"), uri(t, "./A/E"), noon) }, 404},
		{"copy what can't be read", "x", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./Secret"), uri(t, "./A/E"), noon) }, 405},
		{"copy without the right", "two", func(tr *Tree, s string) int { return tr.Copy(s, uri(t, "./A/D"), uri(t, "./Mine/E"), noon) }, 425},

		{"replace an ACL, on the parent's right", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/D?prop=ACL"), v("Get=x"), noon) }, 200},
		{"replace an ACL without the right", "two", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./Mine/Leaf?prop=ACL"), v("Get=two"), noon) }, 425},
		{"replace an ACL by nonsense", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/D?prop=ACL"), v("Copy=x"), noon) }, 400},
		{"replace the root's ACL so that nobody adds", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, ".?prop=ACL"), v("Get=*"), noon) }, 405},
		{"replace a title", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A?prop=Title"), v("t"), noon) }, 200},
		{"rename", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/B?prop=Name"), v("B2"), noon) }, 200},
		{"rename to what is there", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/B?prop=Name"), v("D"), noon) }, 418},
		{"rename to what is no name", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A/B?prop=Name"), v("a/b"), noon) }, 400},
		{"rename what is permanent", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./DevInfo/DevId?prop=Name"), v("X"), noon) }, 405},
		{"rename the root", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, ".?prop=Name"), v("X"), noon) }, 405},
		{"replace what the device counts", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A?prop=VerNo"), v("7"), noon) }, 405},
		{"replace an unknown property", "x", func(tr *Tree, s string) int { return tr.Replace(s, uri(t, "./A?prop=Colour"), v("7"), noon) }, 406},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := grown(t)
			before, count := dump(t, tr), tr.count
			if got := c.do(tr, c.server); got != c.want {
				t.Fatalf("status %d, want %d", got, c.want)
			}
			changed := dump(t, tr) != before
			if c.want >= 300 && changed {
				t.Error("what failed has changed something")
			}
			if tr.count != tr.root.size() {
				t.Errorf("%d nodes counted, %d are there", tr.count, tr.root.size())
			}
			tr = grown(t)
			tr.Begin()
			c.do(tr, c.server)
			tr.Rollback()
			if after := dump(t, tr); after != before || tr.count != count {
				t.Errorf("rolled back, it is\n%swant\n%s%d nodes, want %d", after, before, tr.count, count)
			}
		})
	}
}

// Everything at once, rolled back.
func TestRollback(t *testing.T) {
	tr := grown(t)
	before, count := dump(t, tr), tr.count
	if !tr.Begin() || tr.Begin() {
		t.Fatal("Atomics nest")
	}
	for _, code := range []int{
		tr.Replace("one", uri(t, "./A/D"), Value{Data: []byte("9")}, noon.Add(time.Hour)),
		tr.Replace("one", uri(t, "./A/B?prop=Name"), Value{Data: []byte("X")}, noon),
		tr.Add("one", uri(t, "./A/X/Y"), Value{Data: []byte("1")}, noon),
		tr.Replace("one", uri(t, "./A/X/Y"), Value{Data: []byte("2")}, noon),
		tr.Copy("one", uri(t, "./A"), uri(t, "./Z"), noon),
		tr.Delete("one", uri(t, "./A"), noon),
		tr.Add("one", uri(t, "./A"), Value{Format: FormatNode}, noon),
		tr.Replace("one", uri(t, "./Mine?prop=ACL"), Value{}, noon),
	} {
		if code != syncml.StatusOK {
			t.Fatal(code)
		}
	}
	tr.Rollback()
	if after := dump(t, tr); after != before || tr.count != count {
		t.Errorf("rolled back, it is\n%swant\n%s", after, before)
	}
	tr.Begin()
	tr.Delete("one", uri(t, "./A"), noon)
	tr.Commit()
	tr.Rollback() // of nothing
	if _, code := tr.Get("one", uri(t, "./A"), noon); code != syncml.StatusNotFound {
		t.Errorf("committed, and there again: %d", code)
	}
}

func TestGet(t *testing.T) {
	tr := grown(t)
	for s, want := range map[string]string{
		"./A/B/C":              "200 ./A/B/C chr text/plain c",
		"A/D":                  "200 ./A/D int  4",
		"./A":                  "200 ./A node  B/D",
		".":                    "200 . node  A/Clock/DevInfo/Mine/Picky/Run/Secret",
		"./Clock":              "200 ./Clock chr  12:00:00",
		"./Secret":             "405",
		"./No":                 "404",
		"./A/D?prop=Format":    "200 ./A/D?prop=Format chr  int",
		"./A?prop=Format":      "200 ./A?prop=Format chr  node",
		"./A/B/C?prop=Size":    "200 ./A/B/C?prop=Size chr  1",
		"./A?prop=Size":        "406",
		"./A/B/C?prop=Type":    "200 ./A/B/C?prop=Type chr  text/plain",
		"./A?prop=Name":        "200 ./A?prop=Name chr  A",
		"./A?prop=TStamp":      "200 ./A?prop=TStamp chr  20261122T120000Z",
		"./Mine?prop=VerNo":    "200 ./Mine?prop=VerNo chr  1",
		"./Mine?prop=ACL":      "200 ./Mine?prop=ACL chr  Add=one&Delete=one&Get=*&Replace=one",
		"./Mine/Leaf?prop=ACL": "200 ./Mine/Leaf?prop=ACL chr  ",
		"./A?prop=Colour":      "406",
		"./A?list=Struct":      "200 ./A node  ; ./A/B node  ; ./A/B/C chr text/plain ; ./A/D int  ",
		"./A?list=StructData":  "200 ./A node  ; ./A/B node  ; ./A/B/C chr text/plain c; ./A/D int  4",
		"./A?list=TNDS":        "406",
		"./Secret?list=Struct": "405",
		"./Secret?prop=Format": "200 ./Secret?prop=Format chr  chr",
	} {
		entries, code := tr.Get("two", uri(t, s), noon)
		var parts []string
		for _, e := range entries {
			parts = append(parts, fmt.Sprintf("%s %s %s %s", e.URI, e.Value.Format, e.Value.Type, e.Value.Data))
		}
		if got := strings.TrimSpace(fmt.Sprint(code, " ", strings.Join(parts, "; "))); got != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
	if code := tr.Replace("one", uri(t, "./Mine?prop=ACL"), Value{Data: []byte("Get=one&Replace=one")}, noon); code != 200 {
		t.Fatal(code)
	}
	if _, code := tr.Get("two", uri(t, "./Mine/Leaf"), noon); code != syncml.StatusPermissionDenied {
		t.Errorf("inherited rights: %d", code)
	}
	if entries, _ := tr.Get("two", uri(t, ".?list=Struct"), noon); strings.Contains(fmt.Sprint(entries), "Mine") {
		t.Error("a list shows what may not be read")
	}
}

func TestFull(t *testing.T) {
	tr := New(Limits{Nodes: 3})
	tr.ImplicitAdd = true
	for s, want := range map[string]int{"./A/B/C": 420} {
		if code := tr.Add("x", uri(t, s), Value{}, noon); code != want {
			t.Errorf("%s: %d", s, code)
		}
	}
	if code := tr.Add("x", uri(t, "./A/B"), Value{}, noon); code != 200 {
		t.Error(code)
	}
	if code := tr.Add("x", uri(t, "./C"), Value{}, noon); code != 420 {
		t.Error(code)
	}
	if tr.Delete("x", uri(t, "./A"), noon); tr.count != 1 {
		t.Errorf("%d nodes", tr.count)
	}
}

func same(a, b URI) bool { return slices.Equal(a.Path, b.Path) && a.Prop == b.Prop && a.List == b.List }
