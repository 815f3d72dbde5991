package enrolltest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// Transcript of messages. What Hide was told shows under its name.
type Transcript struct {
	t      testing.TB
	text   strings.Builder
	hidden map[string]string
	// patterns of what can't be known before, such as times.
	patterns []pattern
}

type pattern struct {
	expression *regexp.Regexp
	name       string
}

// NewTranscript is empty.
func NewTranscript(t testing.TB) *Transcript {
	return &Transcript{t: t, hidden: make(map[string]string)}
}

// Note is a line of explanation.
func (r *Transcript) Note(format string, args ...any) {
	fmt.Fprintf(&r.text, "# "+format+"\n", args...)
}

// Line as it is, for what Do can't show.
func (r *Transcript) Line(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

// Hide a text.
func (r *Transcript) Hide(what, name string) { r.hidden[what] = "[" + name + "]" }

// HideDER hides octets as they stand in base64.
func (r *Transcript) HideDER(der []byte, name string) {
	r.Hide(base64.StdEncoding.EncodeToString(der), name)
}

// HidePattern hides what an expression matches.
func (r *Transcript) HidePattern(expression, name string) {
	r.patterns = append(r.patterns, pattern{regexp.MustCompile(expression), "[" + name + "]"})
}

// Do sends a request and records it and its answer, whose body it returns.
func (r *Transcript) Do(client *http.Client, request *http.Request) (*http.Response, []byte) {
	r.t.Helper()
	var sent []byte
	if request.Body != nil {
		var err error
		if sent, err = io.ReadAll(request.Body); err != nil {
			r.t.Fatal(err)
		}
		request.Body = io.NopCloser(bytes.NewReader(sent))
	}
	fmt.Fprintf(&r.text, "> %s %s\n", request.Method, request.URL.RequestURI())
	r.header("> ", request.Header, "Authorization", "Content-Type")
	r.body("> ", sent)
	answer, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintf(&r.text, "< %s\n", answer.Status)
	if len(answer.TransferEncoding) > 0 {
		fmt.Fprintf(&r.text, "< Transfer-Encoding: %s\n", answer.TransferEncoding)
	}
	r.header("< ", answer.Header, "Allow", "Content-Type", "Content-Transfer-Encoding", "Retry-After", "WWW-Authenticate")
	r.body("< ", body)
	return answer, body
}

func (r *Transcript) header(prefix string, h http.Header, names ...string) {
	for _, name := range names {
		for _, value := range h.Values(name) {
			fmt.Fprintf(&r.text, "%s%s: %s\n", prefix, name, value)
		}
	}
}

func (r *Transcript) body(prefix string, body []byte) {
	if len(body) == 0 {
		return
	}
	for line := range strings.Lines(strings.TrimRight(string(body), "\n")) {
		r.text.WriteString(prefix + "  " + strings.TrimRight(line, "\r\n") + "\n")
	}
}

// Golden compares the transcript with testdata/NAME.txt.
func (r *Transcript) Golden(name string) {
	r.t.Helper()
	got := r.text.String()
	// The longest first: one may be a part of another.
	keys := slices.SortedFunc(func(yield func(string) bool) {
		for k := range r.hidden {
			if !yield(k) {
				return
			}
		}
	}, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, k := range keys {
		got = strings.ReplaceAll(got, k, r.hidden[k])
	}
	for _, p := range r.patterns {
		got = p.expression.ReplaceAllString(got, p.name)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if got != string(want) {
		r.t.Errorf("another transcript than %s (-update writes it):\n%s", path, got)
	}
}
