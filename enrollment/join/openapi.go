package join

import (
	_ "embed"
	"net/http"
)

// OpenAPIPath has the description of this protocol as OpenAPI 3.1.
const OpenAPIPath = "/join/openapi.json"

// openAPI is made from the types of the messages by
// `go test ./enrollment/join -run TestOpenAPI -update`.
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}
