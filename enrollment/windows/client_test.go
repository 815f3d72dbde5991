package windows

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/enrollment/enrolltest"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Messages in the form of the examples of MS-MDE2 section 4 and of Microsoft's
// page "On-premises authentication device enrollment": their elements, order,
// prefixes and white space, with values of ours.
const (
	head = `<?xml version="1.0"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing" xmlns:u="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd" xmlns:wsse="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd" xmlns:wst="http://docs.oasis-open.org/ws-sx/ws-trust/200512" xmlns:ac="http://schemas.xmlsoap.org/ws/2006/12/authorization">
  <s:Header>
    <a:Action s:mustUnderstand="1">
      %s
    </a:Action>
    <a:MessageID>urn:uuid:748132ec-a575-4329-b01b-6171a9cf847%d</a:MessageID>
    <a:ReplyTo>
      <a:Address>http://www.w3.org/2005/08/addressing/anonymous</a:Address>
    </a:ReplyTo>
    <a:To s:mustUnderstand="1">
      %s
    </a:To>%s
  </s:Header>
  <s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">
`
	foot = `
  </s:Body>
</s:Envelope>
`
	usernameToken = `
    <wsse:Security s:mustUnderstand="1">
      <wsse:UsernameToken u:Id="uuid-cc1ccc1f-2fba-4bcf-b063-ffc0cac77917-4">
        <wsse:Username>%s</wsse:Username>
        <wsse:Password wsse:Type="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText">%s
        </wsse:Password>
      </wsse:UsernameToken>
    </wsse:Security>`
	discoverBody = `    <Discover xmlns="http://schemas.microsoft.com/windows/management/2012/01/enrollment/">
      <request xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
        <EmailAddress>%s</EmailAddress>
        <OSEdition>4</OSEdition>
        <RequestVersion>%s</RequestVersion>
        <DeviceType>CIMClient_Windows</DeviceType>
        <ApplicationVersion>10.0.22631.0</ApplicationVersion>
        <AuthPolicies>
          <AuthPolicy>OnPremise</AuthPolicy>
          <AuthPolicy>Federated</AuthPolicy>
        </AuthPolicies>
      </request>
    </Discover>`
	policiesBody = `    <GetPolicies xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy">
      <client>
        <lastUpdate xsi:nil="true"/>
        <preferredLanguage xsi:nil="true"/>
      </client>
      <requestFilter xsi:nil="true"/>
    </GetPolicies>`
	tokenBody = `    <wst:RequestSecurityToken>
      <wst:TokenType>http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/DeviceEnrollmentToken</wst:TokenType>
      <wst:RequestType>http://docs.oasis-open.org/ws-sx/ws-trust/200512/%s</wst:RequestType>
      <wsse:BinarySecurityToken ValueType="%s" EncodingType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#base64binary">
        %s
      </wsse:BinarySecurityToken>
      <ac:AdditionalContext xmlns="http://schemas.xmlsoap.org/ws/2006/12/authorization">
        <ac:ContextItem Name="DeviceName">
          <ac:Value>TILL-1</ac:Value>
        </ac:ContextItem>
        <ac:ContextItem Name="MAC">
          <ac:Value>FF:FF:FF:FF:FF:FF</ac:Value>
        </ac:ContextItem>
        <ac:ContextItem Name="MAC">
          <ac:Value>CC:CC:CC:CC:CC:CC</ac:Value>
        </ac:ContextItem>
        <ac:ContextItem Name="EnrollmentType">
          <ac:Value>%s</ac:Value>
        </ac:ContextItem>
        <ac:ContextItem Name="DeviceID">
          <ac:Value>7BA748C8-703E-4DF2-A74A-92984117346A</ac:Value>
        </ac:ContextItem>
      </ac:AdditionalContext>
    </wst:RequestSecurityToken>`

	// Types of what is asked with, as Windows writes them.
	typePKCS10 = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment#PKCS10"
	typePKCS7  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#PKCS7"
)

// message in an envelope; n makes its ID.
func message(action string, n int, to, security, body string) string {
	return fmt.Sprintf(head, action, n, to, security) + body + foot
}

func discoverMessage(n int, email, version string) string {
	return message(actionDiscover, n, "https://EnterpriseEnrollment.example.com/EnrollmentServer/Discovery.svc", "", fmt.Sprintf(discoverBody, email, version))
}

func policiesMessage(n int, user, password string) string {
	return message(actionPolicies, n, "https://enroll.example.com/EnrollmentServer/Policy.svc", fmt.Sprintf(usernameToken, user, password), policiesBody)
}

// asks is a RequestSecurityToken; security may be empty.
func asks(n int, security, requestType, valueType, token, enrollmentType string) string {
	return message(actionToken, n, "https://enroll.example.com/EnrollmentServer/Enrollment.svc", security,
		fmt.Sprintf(tokenBody, requestType, valueType, token, enrollmentType))
}

func issueMessage(n int, user, password string, csr []byte) string {
	return asks(n, fmt.Sprintf(usernameToken, user, password), "Issue", typePKCS10, lines(csr), "Full")
}

// lines of base64, as CryptoAPI makes them.
func lines(der []byte) string {
	text := base64.StdEncoding.EncodeToString(der)
	var b strings.Builder
	for ; len(text) > 64; text = text[64:] {
		b.WriteString(text[:64] + "\r\n")
	}
	return b.String() + text
}

// client of a test, strict about what it gets.
type client struct {
	t     *testing.T
	url   string // of the server
	http  *http.Client
	trace *enrolltest.Transcript
}

func (c *client) post(path, message string) (*http.Response, *element) {
	c.t.Helper()
	r, err := http.NewRequest(http.MethodPost, c.url+path, strings.NewReader(message))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/soap+xml; charset=utf-8")
	answer, body := c.trace.Do(c.http, r)
	if answer.ContentLength != int64(len(body)) || len(answer.TransferEncoding) > 0 {
		c.t.Errorf("an answer of length %d, encoding %v: it must not be chunked", answer.ContentLength, answer.TransferEncoding)
	}
	if got := answer.Header.Get("Content-Type"); got != "application/soap+xml; charset=utf-8" {
		c.t.Errorf("answer of type %q", got)
	}
	root, err := parse(body)
	if err != nil {
		c.t.Fatal(err)
	}
	if root.name != (xml.Name{Space: nsSOAP, Local: "Envelope"}) || root.child(nsSOAP, "Header") == nil || root.child(nsSOAP, "Body") == nil {
		c.t.Fatalf("no SOAP 1.2: %+v", root.name)
	}
	if sent, err := parseEnvelope([]byte(message)); err == nil {
		if got := root.child(nsSOAP, "Header").child(nsAddressing, "RelatesTo").value(); got != sent.messageID {
			c.t.Errorf("relates to %q, not %q", got, sent.messageID)
		}
	}
	return answer, root
}

// fault of an answer: subcode and type.
func (c *client) fault(path, message string) (string, string) {
	c.t.Helper()
	answer, root := c.post(path, message)
	f := root.child(nsSOAP, "Body").child(nsSOAP, "Fault")
	if answer.StatusCode != http.StatusInternalServerError || f == nil {
		c.t.Fatalf("%s and no fault", answer.Status)
	}
	detail := f.child(nsSOAP, "Detail").child(nsEnrollment, "DeviceEnrollmentServiceError")
	if got := f.child(nsSOAP, "Code").child(nsSOAP, "Value").value(); got != "s:Receiver" {
		c.t.Errorf("code %q", got)
	}
	if f.child(nsSOAP, "Reason").child(nsSOAP, "Text").value() == "" || detail.child(nsEnrollment, "TraceId").value() == "" {
		c.t.Error("a fault without a reason or an ID")
	}
	return f.child(nsSOAP, "Code").child(nsSOAP, "Subcode").child(nsSOAP, "Value").value(), detail.child(nsEnrollment, "ErrorType").value()
}

// document of an answer that grants.
func (c *client) document(message string) []byte {
	c.t.Helper()
	answer, root := c.post("/EnrollmentServer/Enrollment.svc", message)
	if answer.StatusCode != http.StatusOK {
		c.t.Fatal(answer.Status)
	}
	response := root.child(nsSOAP, "Body").child(nsTrust, "RequestSecurityTokenResponseCollection").child(nsTrust, "RequestSecurityTokenResponse")
	token := response.child(nsTrust, "RequestedSecurityToken").child(nsSecurity, "BinarySecurityToken")
	if got := token.attr("ValueType"); got != "http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/DeviceEnrollmentProvisionDoc" {
		c.t.Errorf("token of type %q", got)
	}
	document, err := base64.StdEncoding.DecodeString(token.value())
	if err != nil {
		c.t.Fatal(err)
	}
	return document
}

// path looks a value up in a provisioning document: types of characteristics,
// the last one the name of a parm.
func path(t *testing.T, document []byte, names ...string) []string {
	t.Helper()
	root, err := parse(document)
	if err != nil {
		t.Fatal(err)
	}
	level := []*element{root}
	for i, name := range names {
		var next []*element
		for _, e := range level {
			for _, child := range e.children {
				last := i == len(names)-1
				if !last && child.name.Local == "characteristic" && (name == "*" || child.attr("type") == name) ||
					last && child.name.Local == "parm" && child.attr("name") == name {
					next = append(next, child)
				}
			}
		}
		level = next
	}
	var values []string
	for _, e := range level {
		values = append(values, e.attr("value"))
	}
	return values
}

// certificateAt reads the one certificate of a store.
func certificateAt(t *testing.T, document []byte, store, context string) *x509.Certificate {
	t.Helper()
	values := path(t, document, "CertificateStore", store, context, "*", "EncodedCertificate")
	if len(values) != 1 {
		t.Fatalf("%d certificates in %s/%s", len(values), store, context)
	}
	der, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(document, []byte(fmt.Sprintf(`type="%s"`, thumbprint(c)))) {
		t.Errorf("the certificate in %s/%s doesn't go by its thumbprint", store, context)
	}
	return c
}

func login(code otp.Code) (string, string) { return enrolltest.Email, code.Password.Reveal() }
