package enrollclients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/enrolltest"
)

// TestReadme runs the examples of README.md as they stand there, but for the
// server and the login.
func TestReadme(t *testing.T) {
	c := newClients(t)
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	const login, server = "XK7M-29QA:8R2N-W4TB-0HJD-6YEV", "https://enroll.example.com"
	examples := 0
	for _, block := range strings.Split(string(readme), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(block, login) {
			continue
		}
		examples++
		w := enrolltest.New(t)
		code := w.Request("till-1")
		writePEM(c, "root.pem", w.Chain()[1])
		c.write("example.sh", []byte(strings.NewReplacer(
			server, serveEST(w), login, code.ID.String()+":"+code.Password.Reveal()).Replace(block)))
		c.run("bash", "-e", "-o", "pipefail", "example.sh")
		certificate := c.certificate("till-1.pem")
		w.Verify(certificate, "till-1", certificate.PublicKey)
		c.same("till-1.pem", "till-1.key")
	}
	if examples != 2 {
		t.Errorf("%d examples, want those of strongSwan and curl", examples)
	}
}
