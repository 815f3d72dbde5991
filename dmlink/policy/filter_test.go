package policy

import (
	"errors"
	"strings"
	"testing"
)

var phone = Facts{
	ID: "phone-1", User: "anna", Unit: "corp/sales", Groups: []string{"field", "pilot"},
	Inventory: map[string]string{"./DevInfo/Man": "Contoso", "./DevInfo/Mod": "X1", "./DevDetail/SwV": "10.0.9"},
	Software:  map[string]string{"Mail": "2.4"},
}

func TestFilter(t *testing.T) {
	for source, want := range map[string]bool{
		"":                                    true,
		"true":                                true,
		`unit.startsWith("corp/")`:            true,
		`"pilot" in groups && user == "anna"`: true,
		`inventory["./DevInfo/Man"] == "Contoso"`:            true,
		`inventory.value("./DevInfo/Lang") == ""`:            true,
		`"./DevInfo/Lang" in inventory`:                      false,
		`older(inventory["./DevDetail/SwV"], "10.0.10")`:     true,
		`older("10.0.10", inventory["./DevDetail/SwV"])`:     false,
		`software.exists(n, n.matches("^Ma"))`:               true,
		`older(software.value("Mail"), "2.4")`:               false,
		`inventory.exists(u, inventory[u] == "X1")`:          true,
		`inventory.value("./DevInfo/Mod") in ["X1", "X2"]`:   true,
		`groups.all(g, g.size() > 1) && id.endsWith("-1")`:   true,
		`!("./Vendor/MSFT/No" in inventory) && unit != "no"`: true,
	} {
		f, err := compileFilter(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := f.Match(phone); err != nil || got != want {
			t.Errorf("%s = %v, %v, want %v", source, got, err, want)
		}
	}
}

func TestFilterRefused(t *testing.T) {
	for source, want := range map[string]string{
		`unit`:                               "expected true or false",
		`nothing == 1`:                       "undeclared reference",
		`unit ==`:                            "Syntax error",
		`unit == 1`:                          "no matching overload",
		strings.Repeat(" ", maxFilter) + "1": "at most",
		strings.Repeat("(", 300) + "true":    "",
		`id.matches("` + strings.Repeat("(a{1,50}){1,50}", 4) + `")`: "",
	} {
		f, err := compileFilter(source)
		if err == nil {
			_, err = f.Match(phone)
		}
		if !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", source, err, want)
		}
	}
}

func TestFilterThatFailsDoesNotMatch(t *testing.T) {
	dear := `[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a+b+c+d+e > 0 && id.size() > 0)))))`
	for source, want := range map[string]string{
		`inventory["./Not/There"] == "1"`: "no such key",
		`1 / (id.size() - 7) == 1`:        "division by zero",
		dear:                              "cost limit",
	} {
		f, err := compileFilter(source)
		if err != nil {
			t.Errorf("%.60s: %v", source, err)
			continue
		}
		if got, err := f.Match(phone); got || !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s = %v, %v, want %q", source, got, err, want)
		}
	}
}

func TestWhatAFilterReads(t *testing.T) {
	for _, c := range []struct {
		source, uri string
		want        bool
	}{
		{"", "./A", false},
		{`inventory["./A"] == "1"`, "./A", true},
		{`inventory["./A"] == "1"`, "./B", false},
		{`inventory.value("./A") == "1"`, "./A", true},
		{`"./A" in inventory`, "./A", true},
		{`"./A" in inventory`, "./B", false},
		{`inventory.exists(u, u == "./A")`, "./B", true}, // any
		{`inventory["./" + unit] == "1"`, "./B", true},
		{`inventory.size() > 3`, "./B", true},
		{`"Mail" in software`, SoftwareFact, true},
		{`"Mail" in software`, "./A", false},
		{`unit == "corp"`, SoftwareFact, false},
	} {
		f, err := compileFilter(c.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Reads(c.uri); got != c.want {
			t.Errorf("%s reads %s: %v", c.source, c.uri, got)
		}
	}
}

func TestVersionsAreComparedByNumbers(t *testing.T) {
	ascending := []string{"", "1", "1.2", "1.2.3", "1.10", "1.10a", "1.10b", "2", "10.0"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareVersions(a, b) < 0; got != (i < j) {
				t.Errorf("older(%q, %q) = %v", a, b, got)
			}
		}
	}
	if compareVersions("1.02", "1.2") != 0 {
		t.Error("leading zeros count")
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{`inventory["./A"] == "1"`, `groups.exists(g, g == unit)`, `older("1.2", id)`, `id.matches("a*")`, `[1].all(x, x > 0)`, `software.value("a")`, `{"a": 1}.a == 1`, `true ? unit == "" : false`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		filter, err := compileFilter(source)
		if err != nil {
			return
		}
		matched, err := filter.Match(phone)
		if matched && err != nil {
			t.Errorf("%q matches with error %v", source, err)
		}
		again, _ := filter.Match(phone)
		if again != matched {
			t.Errorf("%q says %v, then %v", source, matched, again)
		}
	})
}
