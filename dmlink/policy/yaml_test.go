package policy

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func export(t *testing.T, d Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := Export(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var sample = Document{
	Sets: []Set{
		{Name: "Proxy of sales", Description: "all: of them", Groups: []string{"pilot", "field", "pilot"}, Except: []string{"yes"}, Filter: `inventory["./DevInfo/Man"] == "Contoso"`, Atomic: true, Settings: []Setting{
			{URI: "./Vendor/MSFT/Proxy/P/Port", Format: "int", Data: "8080", After: Leave, Leave: "0"},
			{URI: "Vendor/MSFT/Proxy/P/Addr", Format: "chr", Type: "text/plain", Data: "line\nline \"quoted\" {436EF144} \u00e9\x01"},
		}},
		{Name: "007", Disabled: true, Settings: []Setting{{URI: "./A", Absent: true}, {URI: "./B", Format: "bool", Data: "true", After: Keep}}},
	},
	Units: []Unit{{Path: "corp/sales", Block: true}},
	Links: []Link{{Unit: "corp/sales", Set: "007", Order: 2}, {Unit: "", Set: "Proxy of sales", Order: 1, Enforced: true, Disabled: true}},
}

func TestExportIsStable(t *testing.T) {
	got := export(t, sample)
	want, err := os.ReadFile("testdata/export.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s", got)
	}
	back, err := Import(strings.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.normal(), sample.normal()) {
		t.Errorf("back came\n%+v\nof\n%+v", back, sample.normal())
	}
	if again := export(t, back); again != got {
		t.Errorf("again\n%s", again)
	}
	if _, err := Compile(back); err != nil {
		t.Error(err)
	}
}

func TestImportTakesOtherStyles(t *testing.T) {
	d, err := Import(strings.NewReader("# ours\nlinks: [{unit: '', set: a, order: 1}]\nsets:\n- name: a\n  settings:\n  - uri: ./A\n    data: |\n      two\n      lines\n"))
	if err != nil || d.Sets[0].Settings[0].Data != "two\nlines\n" || d.Links[0].Set != "a" {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := Import(strings.NewReader(" \n")); err != nil || len(d.Sets) != 0 {
		t.Errorf("nothing: %+v, %v", d, err)
	}
}

func TestImportRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"sets: [{nam: a}]":                   "nam",
		"sets: [{name: a, name: b}]":         "name",
		"sets: &x []\nlinks: *x":             "anchors",
		"sets:\n- &a {name: a}\n- *a":        "line 2: anchors",
		strings.Repeat("[", 100):             "nested deeper",
		strings.Repeat("- ", 100) + "a":      "nested deeper",
		"sets: []\n---\nsets: []":            "2 documents",
		"sets: [{name: \xff}]":               "UTF-8",
		"sets: 7":                            "",
		strings.Repeat("#", MaxSize) + "#\n": "more than",
	} {
		if _, err := Import(strings.NewReader(text)); !errors.Is(err, ErrDocument) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// What was imported, whatever it was, is exported and imported to the same.
func FuzzImport(f *testing.F) {
	var b bytes.Buffer
	if err := Export(&b, sample); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("sets:\n- name: a\n  settings:\n  - {uri: ./A, data: \"\\u0000 \\t\"}\n"))
	f.Add([]byte("links: [{unit: '', set: a, order: 1}]"))
	f.Add([]byte("units:\n- path: 'a: b'\n  block: true"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Import(bytes.NewReader(text))
		if err != nil {
			return
		}
		if _, err := Compile(d); err != nil {
			return
		}
		var out bytes.Buffer
		if err := Export(&out, d); err != nil {
			t.Fatal(err)
		}
		back, err := Import(&out)
		if err != nil {
			t.Fatalf("exported: %v", err)
		}
		if a, b := export(t, d), export(t, back); a != b {
			t.Errorf("%s\nand then\n%s", a, b)
		}
	})
}

// Every text that a setting may have comes back.
func FuzzScalar(f *testing.F) {
	for _, s := range []string{"", "a", "./A", "true", "-", "a: b", "# x", "\x00", "\u2028", " x ", "{", "'", "\"\\", "1e3", "a\r\nb", "\u0085", "\ufeff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || tooDeep([]byte(s)) > 0 || len(s) > maxValue {
			return
		}
		d := Document{Sets: []Set{{Name: "a", Settings: []Setting{{URI: "./A", Data: s}}}}}
		back, err := Import(strings.NewReader(export(t, d)))
		if err != nil || back.Sets[0].Settings[0].Data != s {
			t.Errorf("%q came back as %+v, %v", s, back, err)
		}
	})
}
