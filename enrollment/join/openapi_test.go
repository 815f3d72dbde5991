package join

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// described are the messages and the types of their answers.
var described = []struct {
	path, id, summary, text string
	request, response       reflect.Type
	statuses                []int
}{
	{
		DiscoverPath, "discover", "Which servers know a request",
		"For a device that knows only the published name. MAC: HMAC-SHA-256 under HKDF-Expand(K, \"" + labelDiscover + "\") over the transcript; that of a server under HKDF-Expand(K, \"" + labelFound + "\") over the same, the device's MAC and the server's name.",
		reflect.TypeFor[DiscoverRequest](), reflect.TypeFor[DiscoverResponse](), []int{400, 403, 415, 429, 503},
	},
	{
		TrustPath, "trust", "The root to trust",
		"MAC 1: under HKDF-Expand(K, \"" + labelTrust + "\"). Any ID is answered in the same way.",
		reflect.TypeFor[TrustRequest](), reflect.TypeFor[TrustResponse](), []int{400, 415, 429, 503},
	},
	{
		CertificatePath, "certificate", "A certificate for the device's key",
		"On the connection of /join/trust. MAC 2: under HKDF-Expand(B, \"" + labelCertificate + "\"), MAC 3: under HKDF-Expand(B, \"" + labelIssued + "\"). The same again, on a new connection from /join/trust on, gives the same certificate.",
		reflect.TypeFor[CertificateRequest](), reflect.TypeFor[CertificateResponse](), []int{400, 403, 415, 422, 429, 503},
	},
}

// typeNames without the package, which is one.
func typeNames(t reflect.Type, hint string) string { return huma.DefaultSchemaNamer(t, hint) }

func describe() *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", typeNames)
	api := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Roamgate enrollment", Version: fmt.Sprint(Versions[0]), Description: `How a device gets its certificate with a one-time code. TLS 1.3 that ends in the server; its certificate isn't verified, the MACs are.

K is HKDF-SHA-256 of the password's 10 octets with the 5 octets of the request ID as salt and "roamgate enrollment key 1" as info. B is HKDF-SHA-256 of K with the SHA-256 hash of the device's SubjectPublicKeyInfo as salt and "roamgate enrollment bound key 1" as info. Every MAC is HMAC-SHA-256.

The transcript is a sequence of fields, each behind its length in four octets, most significant first; a number is four such octets alone (renew_from: eight), a list its length and then its fields. Discovery: "roamgate join discover", hello. Otherwise: "roamgate join", hello, version, server's nonce, instance, instance_oid, server, root, chain; MAC 1; csr; MAC 2; certificate, chain, renew_from, configuration; MAC 3. hello: the channel binding tls-exporter (RFC 9266, 32 octets), the number of versions, each version, the request's 5 octets, the device's nonce. MACs aren't part of it, but that of the device in discovery.`},
		Components: &huma.Components{Schemas: schemas},
		Paths:      map[string]*huma.PathItem{},
	}
	problem := schemas.Schema(reflect.TypeFor[Problem](), true, "")
	for _, d := range described {
		responses := map[string]*huma.Response{"200": {
			Description: "As asked",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(d.response, true, "")}},
		}}
		for _, status := range d.statuses {
			responses[fmt.Sprint(status)] = &huma.Response{
				Description: http.StatusText(status),
				Content:     map[string]*huma.MediaType{ProblemType: {Schema: problem}},
			}
		}
		api.Paths[d.path] = &huma.PathItem{Post: &huma.Operation{
			OperationID: d.id, Summary: d.summary, Description: d.text,
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"application/json": {Schema: schemas.Schema(d.request, true, "")},
			}},
			Responses: responses,
		}}
	}
	return api
}

// The committed document is that of the types.
func TestOpenAPI(t *testing.T) {
	compact, err := json.Marshal(describe())
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, compact, "", "  "); err != nil {
		t.Fatal(err)
	}
	want.WriteByte('\n')
	if *update {
		if err := os.WriteFile("openapi.json", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openAPI, want.Bytes()) {
		t.Error("openapi.json isn't that of the messages: run this test with -update")
	}
}

// conforms says what in a body isn't as the document describes it.
func conforms(t *testing.T, typ reflect.Type, body []byte) {
	t.Helper()
	api := describe()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var result huma.ValidateResult
	schema := api.Components.Schemas.Schema(typ, true, "")
	huma.Validate(api.Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, &result)
	for _, err := range result.Errors {
		t.Errorf("%s: %v in %s", typ, err, body)
	}
}

// What we send and accept is what the document describes.
func TestMessagesConform(t *testing.T) {
	for kind, m := range sound() {
		if kind == "inquiry" {
			continue // between instances
		}
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		conforms(t, reflect.TypeOf(m).Elem(), body)
	}
}
