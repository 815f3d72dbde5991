// Package delivery makes what carries a request to the user of a device: an
// e-mail as a file, the text of an SMS, a QR code, a folder for a USB stick.
//
// None of them has the one-time password unless the caller puts it in: it should
// go another way than the link. The link alone enrolls nobody.
//
// What lives here: texts and formats. What doesn't: sending anything.
package delivery

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// ErrMessage: something in a message can't be delivered.
var ErrMessage = errors.New("can't be delivered")

// Message to the user of a device.
type Message struct {
	// Title of the VPN, as users know it.
	Title string
	// URL of the page where the user begins.
	URL string
	// User who is addressed, Email where to, and the Device that it is about.
	User, Email, Device string
	// Request by its ID.
	Request string
	Expires time.Time
	// Password, if it is to be in what is delivered; else empty.
	Password string
	// Root that devices will trust.
	Root *x509.Certificate
}

// File of a folder.
type File struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// check keeps others' texts from becoming lines or headers of ours.
func (m *Message) check() error {
	for name, value := range map[string]string{
		"title": m.Title, "URL": m.URL, "user": m.User, "e-mail address": m.Email, "device": m.Device,
		"request": m.Request, "password": m.Password,
	} {
		if strings.ContainsFunc(value, unicode.IsControl) || len(value) > 1000 {
			return fmt.Errorf("%w: %s %q", ErrMessage, name, value[:min(len(value), 40)])
		}
	}
	return nil
}

// until in words that are the same everywhere.
func (m *Message) until() string { return m.Expires.UTC().Format("2 January 2006, 15:04 UTC") }

// text is the message in plain text, lines of at most 76 characters where that
// can be.
func (m *Message) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hello %s,\n\n", m.User)
	fmt.Fprintf(&b, "%s is ready for your device %q.\n\n", m.Title, m.Device)
	fmt.Fprintf(&b, "On that device, open this page before %s:\n\n  %s\n\n", m.until(), m.URL)
	if m.Password != "" {
		fmt.Fprintf(&b, "Your one-time password:\n\n  %s\n\n", m.Password)
		b.WriteString("It is good for one device, once. Delete this message afterwards.\n")
	} else {
		fmt.Fprintf(&b, "The page asks for the one-time password of request %s. You get it\nanother way, from your administrator.\n", m.Request)
	}
	b.WriteString("\nIf you don't expect this, do nothing and tell your administrator.\n")
	return b.String()
}

// maxSMS is one message of the GSM 7-bit alphabet (3GPP TS 23.038).
const maxSMS = 160

// SMS is the text of one short message.
func (m Message) SMS() (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s: set up %s at %s", m.Title, m.Device, m.URL)
	if m.Password != "" {
		text += " with " + m.Password
	}
	for _, short := range []string{text, strings.TrimPrefix(text, m.Title+": "), m.URL + passwordTail(m.Password)} {
		if len(short) <= maxSMS && isBasic(short) {
			return short, nil
		}
	}
	return "", fmt.Errorf("%w: more than %d characters for an SMS", ErrMessage, maxSMS)
}

func passwordTail(password string) string {
	if password == "" {
		return ""
	}
	return " " + password
}

// isBasic: what GSM 7-bit and ASCII have in common, without what takes two
// places or is told apart badly.
func isBasic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r > '~' || strings.ContainsRune("`^{}\\[]~|", r)
	})
}

// QR is the code of the link.
func (m Message) QR() (profile.Code, error) { return profile.Link(m.URL) }

// Folder for a USB stick or another way without a network: a text, the code as a
// picture, and the root that devices will trust.
func (m Message) Folder() ([]File, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	code, err := m.QR()
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o644)
	if m.Password != "" {
		mode = 0o600
	}
	files := []File{{"READ-ME.txt", mode, nil}, {"link.png", 0o644, code.PNG()}, {"link.url", 0o644, []byte("[InternetShortcut]\r\nURL=" + m.URL + "\r\n")}}
	text := m.text()
	if m.Root != nil {
		sum := sha256.Sum256(m.Root.Raw)
		text += fmt.Sprintf("\nroot.pem is the certificate that your device will trust. SHA-256:\n  %s\n", hex.EncodeToString(sum[:]))
		files = append(files, File{"root.pem", 0o644, ca.EncodeCertificates(m.Root)})
	}
	files[0].Data = []byte(strings.ReplaceAll(text, "\n", "\r\n"))
	return files, nil
}

// address of the receiver.
func (m *Message) address() (*mail.Address, error) {
	a, err := mail.ParseAddress(m.Email)
	if err != nil || a.Address != m.Email {
		return nil, fmt.Errorf("%w: e-mail address %q", ErrMessage, m.Email)
	}
	a.Name = m.User
	return a, nil
}
