package delivery

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"
)

var message = Message{
	Title: "Example VPN", URL: "https://enroll.example.com/?request=ABCD-EFGH", User: "alice", Email: "alice@example.com",
	Device: "phone-1", Request: "ABCD-EFGH", Expires: time.Date(2031, 5, 6, 7, 8, 0, 0, time.UTC),
}

// parts of a message, decoded, by type.
func parts(t *testing.T, kind string, body io.Reader, into map[string]string) {
	t.Helper()
	media, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(media, "multipart/") {
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		into[media] = string(data)
		return
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var content io.Reader = p
		switch p.Header.Get("Content-Transfer-Encoding") {
		case "quoted-printable":
			content = quotedprintable.NewReader(p)
		case "base64":
			content = base64.NewDecoder(base64.StdEncoding, p)
		}
		parts(t, p.Header.Get("Content-Type"), content, into)
	}
}

// A mail program finds both texts, the link in both, and the code as a picture.
func TestMail(t *testing.T) {
	m := message
	m.User = "Ålice \"A\" O'Hara"
	file, err := m.Mail("VPN <it@example.com>", time.Date(2031, 5, 6, 0, 0, 0, 0, time.UTC), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(file) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || len(line) > 200 {
			t.Errorf("line %q", line)
		}
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	to, err := parsed.Header.AddressList("To")
	if err != nil || to[0].Name != m.User || to[0].Address != m.Email {
		t.Errorf("to %v (%v)", to, err)
	}
	got := map[string]string{}
	parts(t, parsed.Header.Get("Content-Type"), parsed.Body, got)
	for _, kind := range []string{"text/plain", "text/html"} {
		for _, want := range []string{"https://enroll.example.com/?request=ABCD-EFGH", "phone-1", "6 May 2031, 07:08 UTC", "another way"} {
			if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got[kind], "\r\n", " "), "\n", " "), want) {
				t.Errorf("%s has no %q:\n%s", kind, want, got[kind])
			}
		}
	}
	if _, err := png.Decode(strings.NewReader(got["image/png"])); err != nil {
		t.Errorf("picture: %v", err)
	}
}

// The password is in what is delivered if the caller wants it, and only then;
// HTML stays HTML whatever names are.
func TestPassword(t *testing.T) {
	m := message
	m.User, m.Title = "<b>bob</b>", "A & B"
	for _, password := range []string{"", "0123-4567-89AB-CDEF"} {
		m.Password = password
		file, err := m.Mail("it@example.com", time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := mail.ReadMessage(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		parts(t, parsed.Header.Get("Content-Type"), parsed.Body, got)
		for _, kind := range []string{"text/plain", "text/html"} {
			if has := strings.Contains(got[kind], "0123-4567"); has != (password != "") {
				t.Errorf("%s with password %q: %v", kind, password, has)
			}
		}
		if strings.Contains(got["text/html"], "<b>") || !strings.Contains(got["text/html"], "A &amp; B") {
			t.Errorf("not escaped:\n%s", got["text/html"])
		}
		files, err := m.Folder()
		if err != nil {
			t.Fatal(err)
		}
		if has := bytes.Contains(files[0].Data, []byte("0123-4567")); has != (password != "") || has && files[0].Mode != 0o600 {
			t.Errorf("folder with password %q: %v, mode %o", password, has, files[0].Mode)
		}
	}
}

func TestSMS(t *testing.T) {
	m := message
	text, err := m.SMS()
	if err != nil || text != "Example VPN: set up phone-1 at https://enroll.example.com/?request=ABCD-EFGH" {
		t.Errorf("%q (%v)", text, err)
	}
	m.Title, m.Password = strings.Repeat("Ünicode ", 30), "0123-4567-89AB-CDEF"
	text, err = m.SMS()
	if err != nil || len(text) > 160 || !strings.HasSuffix(text, m.Password) {
		t.Errorf("%q (%v)", text, err)
	}
	m.URL = "https://" + strings.Repeat("x", 150) + ".example.com/"
	if text, err := m.SMS(); !errors.Is(err, ErrMessage) {
		t.Errorf("%q (%v)", text, err)
	}
}

// Nobody's name becomes a header or a line of ours.
func TestInjection(t *testing.T) {
	for _, spoil := range []func(*Message){
		func(m *Message) { m.User = "a\r\nBcc: b@example.com" },
		func(m *Message) { m.Email = "a@example.com\r\nBcc: b@example.com" },
		func(m *Message) { m.Email = "a@example.com, b@example.com" },
		func(m *Message) { m.Email = "A <a@example.com>" },
		func(m *Message) { m.Device = "x\ny" },
		func(m *Message) { m.Title = "\x00" },
	} {
		m := message
		spoil(&m)
		if file, err := m.Mail("it@example.com", time.Now(), rand.Reader); !errors.Is(err, ErrMessage) {
			t.Errorf("%+v: %v\n%s", m, err, file)
		}
	}
}
