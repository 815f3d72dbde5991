package delivery

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
)

//go:embed mail.html.tmpl
var mailTemplate string

var mailPage = template.Must(template.New("mail").Parse(mailTemplate))

// codeID of the picture inside the message (RFC 2392).
const codeID = "code@enrollment.invalid"

// Mail is the message as a file (RFC 5322): plain text, and HTML with the QR
// code inside. random gives 16 octets for its Message-ID and twice 30 for
// boundaries.
func (m Message) Mail(from string, now time.Time, random io.Reader) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	to, err := m.address()
	if err != nil {
		return nil, err
	}
	sender, err := mail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("%w: sender %q: %w", ErrMessage, from, err)
	}
	code, err := m.QR()
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = mailPage.Execute(&page, map[string]any{"M": m, "Until": m.until(), "Code": template.URL("cid:" + codeID)})
	if err != nil {
		return nil, err
	}
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, domain, _ := strings.Cut(sender.Address, "@")
	for _, h := range [][2]string{
		{"From", sender.String()},
		{"To", to.String()},
		{"Subject", mime.QEncoding.Encode("utf-8", m.Title+": your device "+m.Device)},
		{"Date", now.Format(time.RFC1123Z)},
		{"Message-ID", "<" + hex.EncodeToString(id[:]) + "@" + domain + ">"},
		{"MIME-Version", "1.0"},
		// Mail programs open it as a draft.
		{"X-Unsent", "1"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	both := multipart.NewWriter(&b)
	related := multipart.NewWriter(&b)
	for _, w := range []*multipart.Writer{both, related} {
		var boundary [30]byte
		if _, err := io.ReadFull(random, boundary[:]); err != nil {
			return nil, err
		}
		if err := w.SetBoundary(hex.EncodeToString(boundary[:])); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=%s\r\n\r\n", both.Boundary())
	if err := quoted(both, "text/plain; charset=utf-8", m.text()); err != nil {
		return nil, err
	}
	if _, err := both.CreatePart(textproto.MIMEHeader{
		"Content-Type": {"multipart/related; type=\"text/html\"; boundary=" + related.Boundary()},
	}); err != nil {
		return nil, err
	}
	if err := quoted(related, "text/html; charset=utf-8", page.String()); err != nil {
		return nil, err
	}
	if err := picture(related, code.PNG()); err != nil {
		return nil, err
	}
	if err := related.Close(); err != nil {
		return nil, err
	}
	err = both.Close()
	return b.Bytes(), err
}

func quoted(to *multipart.Writer, kind, text string) error {
	part, err := to.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Transfer-Encoding": {"quoted-printable"}})
	if err != nil {
		return err
	}
	w := quotedprintable.NewWriter(part)
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Close()
}

func picture(to *multipart.Writer, png []byte) error {
	part, err := to.CreatePart(textproto.MIMEHeader{
		"Content-Type": {"image/png"}, "Content-Transfer-Encoding": {"base64"},
		"Content-ID": {"<" + codeID + ">"}, "Content-Disposition": {"inline; filename=link.png"},
	})
	if err != nil {
		return err
	}
	text := base64.StdEncoding.EncodeToString(png)
	for ; len(text) > 76; text = text[76:] {
		if _, err := io.WriteString(part, text[:76]+"\r\n"); err != nil {
			return err
		}
	}
	_, err = io.WriteString(part, text+"\r\n")
	return err
}
