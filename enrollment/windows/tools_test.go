package windows

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// xmllint runs the program, which reads XML as we don't. A developer's laptop
// may lack it; where ROAMGATE_INTEGRATION is 1 it may not.
func xmllint(t *testing.T, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("xmllint")
	if err != nil {
		if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
			t.Fatal("xmllint is not installed")
		}
		t.Skip("xmllint is not installed")
	}
	out, err := exec.CommandContext(t.Context(), program, append([]string{"--nonet"}, args...)...).Output()
	if err != nil {
		t.Errorf("xmllint %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// alone is the element of a name in a message, as a document of its own.
func alone(t *testing.T, message, name string) string {
	t.Helper()
	content := xmllint(t, "--xpath", "//*[local-name()='"+name+"']", write(t, "message.xml", message))
	// xmllint leaves out what the envelope declares.
	tag, rest, _ := strings.Cut(content, name)
	return write(t, "content.xml", tag+name+` xmlns:s="`+nsSOAP+`" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`+rest)
}

// TestSchemas: xmllint finds the content of all answers valid.
func TestSchemas(t *testing.T) {
	w := enrolltest.New(t)
	h := New(options(w))
	for name, c := range map[string]struct{ path, message, schema string }{
		"DiscoverResponse":    {"Discovery.svc", discoverMessage(1, enrolltest.Email, "4.0"), "discovery.xsd"},
		"GetPoliciesResponse": {"Policy.svc", policiesMessage(1, enrolltest.Email, "x"), "xcep.xsd"},
		"Fault":               {"Enrollment.svc", issueMessage(1, enrolltest.Email, "x", enrolltest.CSR(t, enrolltest.RSAKeys()[0])), "fault.xsd"},
	} {
		answer := serve(h, http.MethodPost, Root+c.path, c.message).Body.String()
		xmllint(t, "--noout", "--schema", filepath.Join("testdata", c.schema), alone(t, answer, name))
	}
	// The message that we take for Windows' own is valid, too.
	xmllint(t, "--noout", "--schema", filepath.Join("testdata", "xcep.xsd"), alone(t, policiesMessage(1, "ann", "x"), "GetPolicies"))
}

// TestProvisioningDocument: xmllint finds it valid, and the same values in it.
func TestProvisioningDocument(t *testing.T) {
	w := enrolltest.New(t)
	c := newClient(t, w)
	code := w.Request("till-1")
	user, password := login(code)
	document := write(t, "document.xml", string(c.document(issueMessage(1, user, password, enrolltest.WindowsCSR(t, enrolltest.RSAKeys()[0])))))
	xmllint(t, "--noout", "--dtdvalid", filepath.Join("testdata", "provisioning.dtd"), document)
	for query, want := range map[string]string{
		"string(/wap-provisioningdoc/@version)":                                               "1.1",
		"string(//characteristic[@type='APPLICATION']/parm[@name='APPID']/@value)":            "w7",
		"string(//characteristic[@type='APPLICATION']/parm[@name='NAME']/@value)":             "Example & Sons",
		"count(//characteristic[@type='APPAUTH'])":                                            "2",
		"count(//characteristic[@type='Root']/characteristic[@type='System']/*)":              "1",
		"count(//characteristic[@type='My']/characteristic[@type='User']/characteristic)":     "2",
		"string(//characteristic[@type='Poll']/parm[@name='NumberOfFirstRetries']/@datatype)": "integer",
	} {
		if got := strings.TrimSpace(xmllint(t, "--xpath", query, document)); got != want {
			t.Errorf("%s is %q, want %q", query, got, want)
		}
	}
}
