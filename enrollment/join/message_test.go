package join

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

var b32 = base64.StdEncoding.EncodeToString(octets(1))

// sound messages, one of each kind.
func sound() map[string]Message {
	hello := Hello{Versions: []int{1}, Request: "XK7M-29QA", Nonce: octets(1)}
	trust := Trust{Instance: "Example", InstanceOID: "2.25.1", Server: "a.example", Root: []byte("R"), Chain: [][]byte{[]byte("I"), []byte("R")}}
	return map[string]Message{
		"discover":    &DiscoverRequest{hello, octets(2)},
		"found":       &DiscoverResponse{[]Server{{"a.example:8443", octets(3)}}},
		"trust":       &TrustRequest{hello},
		"root":        &TrustResponse{1, octets(4), trust, octets(5)},
		"certificate": &CertificateRequest{hello, []byte("CSR"), octets(6)},
		"issued":      &CertificateResponse{[]byte("C"), [][]byte{[]byte("I"), []byte("R")}, 1, []byte("{}"), octets(7)},
		"inquiry":     &Inquiry{octets(8), DiscoverRequest{hello, octets(9)}},
	}
}

// empty message of the same kind.
func empty(kind string) Message {
	return map[string]func() Message{
		"discover":    func() Message { return new(DiscoverRequest) },
		"found":       func() Message { return new(DiscoverResponse) },
		"trust":       func() Message { return new(TrustRequest) },
		"root":        func() Message { return new(TrustResponse) },
		"certificate": func() Message { return new(CertificateRequest) },
		"issued":      func() Message { return new(CertificateResponse) },
		"inquiry":     func() Message { return new(Inquiry) },
	}[kind]()
}

func TestMessagesComeBack(t *testing.T) {
	for kind, m := range sound() {
		sent, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := empty(kind)
		if err := DecodeBytes(sent, got); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if again, _ := json.Marshal(got); !bytes.Equal(again, sent) {
			t.Errorf("%s: %s became %s", kind, sent, again)
		}
	}
}

// A message with a field too many, too few, too short or too long isn't one.
func TestMessagesAreStrict(t *testing.T) {
	hello := `"versions":[1],"request":"XK7M-29QA","nonce":"` + b32 + `"`
	mac := `,"mac":"` + b32 + `"`
	for name, body := range map[string]string{
		"nothing":          ``,
		"null":             `null`,
		"a list":           `[]`,
		"no versions":      `{"request":"XK7M-29QA","nonce":"` + b32 + `"` + mac + `,"csr":"AA=="}`,
		"no MAC":           `{` + hello + `,"csr":"AA=="}`,
		"short MAC":        `{` + hello + `,"csr":"AA==","mac":"AA=="}`,
		"no CSR":           `{` + hello + mac + `}`,
		"unknown field":    `{` + hello + mac + `,"csr":"AA==","extra":1}`,
		"two values":       `{` + hello + mac + `,"csr":"AA=="}{}`,
		"something behind": `{` + hello + mac + `,"csr":"AA=="}x`,
		"not base64":       `{` + hello + mac + `,"csr":"*"}`,
		"version 0":        strings.Replace(`{`+hello+mac+`,"csr":"AA=="}`, "[1]", "[0]", 1),
		"version 256":      strings.Replace(`{`+hello+mac+`,"csr":"AA=="}`, "[1]", "[256]", 1),
		"17 versions":      strings.Replace(`{`+hello+mac+`,"csr":"AA=="}`, "[1]", "[1"+strings.Repeat(",1", 16)+"]", 1),
		"request":          strings.Replace(`{`+hello+mac+`,"csr":"AA=="}`, "XK7M-29QA", "XK7M", 1),
		"long request":     strings.Replace(`{`+hello+mac+`,"csr":"AA=="}`, "XK7M-29QA", "XK7M-29QA"+strings.Repeat("-", 24), 1),
		"long CSR":         `{` + hello + mac + `,"csr":"` + base64.StdEncoding.EncodeToString(make([]byte, maxCSR+1)) + `"}`,
	} {
		var m CertificateRequest
		if err := DecodeBytes([]byte(body), &m); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := `{` + hello + mac + `,"csr":"AA=="}`
	if err := Decode(strings.NewReader(good), int64(len(good)), new(CertificateRequest)); err != nil {
		t.Errorf("a sound one: %v", err)
	}
	if err := Decode(strings.NewReader(good), int64(len(good))-1, new(CertificateRequest)); !errors.Is(err, ErrMessage) {
		t.Errorf("one octet more than allowed: %v", err)
	}
}

// reader counts what is taken of an endless message.
type reader int64

func (r *reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	*r += reader(len(b))
	return len(b), nil
}

func TestDecodeStopsAtTheLimit(t *testing.T) {
	var endless reader
	if err := Decode(&endless, 1000, new(TrustRequest)); !errors.Is(err, ErrMessage) {
		t.Error(err)
	}
	if endless > 1<<16 {
		t.Errorf("%d octets were taken of a message of at most 1000", endless)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		offered []int
		want    int
	}{{[]int{1}, 1}, {[]int{9, 1}, 1}, {[]int{2, 3}, 0}, {nil, 0}} {
		got, err := (&Hello{Versions: c.offered}).Choose()
		if got != c.want || (err == nil) != (c.want != 0) || err != nil && !errors.Is(err, ErrVersion) {
			t.Errorf("of %v: %d, %v", c.offered, got, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	for kind, m := range sound() {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, b)
	}
	f.Add("trust", []byte(`{"versions":[1],"VERSIONS":[2],"request":"XK7M-29QA","nonce":null}`))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		if sound()[kind] == nil {
			return
		}
		m := empty(kind)
		if DecodeBytes(b, m) != nil {
			return
		}
		sent, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again := empty(kind)
		if err := DecodeBytes(sent, again); err != nil {
			t.Fatalf("%s was accepted, and not what it became, %s: %v", b, sent, err)
		}
		if fmt.Sprint(m) != fmt.Sprint(again) {
			t.Fatalf("%s became %s", b, sent)
		}
	})
}
