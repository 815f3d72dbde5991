package client_test

import (
	"net"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/client"
)

func TestAddress(t *testing.T) {
	for server, want := range map[string]string{
		"enroll.example":               "enroll.example:443",
		"enroll.example:8443":          "enroll.example:8443",
		"https://enroll.example":       "enroll.example:443",
		"https://enroll.example:8443/": "enroll.example:8443",
		"192.0.2.1":                    "192.0.2.1:443",
		"[2001:db8::1]":                "[2001:db8::1]:443",
		"[2001:db8::1]:8443":           "[2001:db8::1]:8443",
		"":                             "",
		":443":                         "",
		"enroll.example:":              "",
		"enroll.example:https":         "",
		"enroll.example:0":             "",
		"enroll.example:65536":         "",
		"a:b:c":                        "",
		"http://enroll.example":        "",
		"https://ann@enroll.example":   "",
		"https://enroll.example/path":  "",
		"https://enroll.example?a=b":   "",
		"enroll.example/path":          "",
		"enroll.example\r\nHost: evil": "",
		strings.Repeat("a", 254):       "",
	} {
		got, err := client.Address(server)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", server, got, err, want)
		}
	}
}

// Whatever a discovery answers, it is dialled as a host and a port or not at
// all.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"enroll.example:8443", "https://[2001:db8::1]/", "a:b:c", "https://a:443:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		address, err := client.Address(s)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" || strings.ContainsAny(host, "/@ \r\n") {
			t.Errorf("%q became %q", s, address)
		}
		if again, err := client.Address(address); err != nil || again != address {
			t.Errorf("%q became %q, and that %q, %v", s, address, again, err)
		}
	})
}
