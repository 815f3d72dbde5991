package windows

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Namespaces: MS-MDE2 section 2.2.1, MS-XCEP and MS-WSTEP sections 2.2.1.
const (
	nsSOAP       = "http://www.w3.org/2003/05/soap-envelope"
	nsAddressing = "http://www.w3.org/2005/08/addressing"
	nsSecurity   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	nsContext    = "http://schemas.xmlsoap.org/ws/2006/12/authorization"
	nsDiscovery  = "http://schemas.microsoft.com/windows/management/2012/01/enrollment"
	nsPolicy     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	nsEnrollment = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
)

// Actions, each with that of its answer.
const (
	actionDiscover = nsDiscovery + "/IDiscoveryService/Discover"
	actionPolicies = nsPolicy + "/IPolicy/GetPolicies"
	actionToken    = nsEnrollment + "/RST/wstep"

	actionDiscovered    = nsDiscovery + "/IDiscoveryService/DiscoverResponse"
	actionPoliciesReply = nsPolicy + "/IPolicy/GetPoliciesResponse"
	actionTokenReply    = nsEnrollment + "/RSTRC/wstep"
)

// maxMessageID is how much of a message's ID goes back to its sender.
const maxMessageID = 128

// envelope is a SOAP message as it is taken here.
type envelope struct {
	action    string
	messageID string
	security  *element // or nil
	body      *element // the one element in the body
}

func parseEnvelope(message []byte) (*envelope, error) {
	root, err := parse(message)
	if err != nil {
		return nil, err
	}
	if root.name.Space != nsSOAP || root.name.Local != "Envelope" {
		return nil, fmt.Errorf("%w: no envelope of SOAP 1.2", errXML)
	}
	header, body := root.child(nsSOAP, "Header"), root.child(nsSOAP, "Body")
	if header == nil || body == nil || len(body.children) != 1 {
		return nil, fmt.Errorf("%w: an envelope has a header, and a body with one element", errXML)
	}
	e := &envelope{
		action:    header.child(nsAddressing, "Action").value(),
		messageID: header.child(nsAddressing, "MessageID").value(),
		security:  header.child(nsSecurity, "Security"),
		body:      body.children[0],
	}
	if len(e.messageID) > maxMessageID {
		return nil, fmt.Errorf("%w: a message ID of %d characters", errXML, len(e.messageID))
	}
	return e, nil
}

//go:embed answers.xml.tmpl
var answersText string

var answers = template.Must(template.New("answers").Funcs(template.FuncMap{"x": escape}).Parse(answersText))

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// answer is what the templates are filled with.
type answer struct {
	Action    string
	RelatesTo string
	// Created and Expires of the message, or zero.
	Created, Expires time.Time
	Body             any
}

// Stamp is a time as WS-Security writes it.
func (a answer) Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// send executes the template of a name; its whole length is told in advance.
func send(w http.ResponseWriter, status int, name string, a answer) error {
	var b bytes.Buffer
	if err := answers.ExecuteTemplate(&b, name, a); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/soap+xml; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who doesn't get it asks again
	return nil
}

// newID is a random UUID, RFC 9562 section 5.4.
func newID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
