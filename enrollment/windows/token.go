package windows

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

const (
	// requestIssue and requestRenew, WS-Trust 1.3 section 3.1.
	requestIssue = nsTrust + "/Issue"
	requestRenew = nsTrust + "/Renew"

	// tokenValidity is how long an answer says to be good for.
	tokenValidity = 5 * time.Minute
)

// token answers RequestSecurityToken, MS-WSTEP section 3.1.4.1 as changed by
// MS-MDE2 sections 3.4 and 3.5.
func (s *server) token(r *http.Request, e *envelope) (string, answer, error) {
	if e.action != actionToken || e.body.name.Local != "RequestSecurityToken" || e.body.name.Space != nsTrust {
		return "", answer{}, badFormat("a RequestSecurityToken message is expected here", nil)
	}
	var issued enroll.Issued
	var err error
	kind := e.body.child(nsTrust, "RequestType").value()
	switch kind {
	case requestIssue:
		issued, err = s.enroll(r, e)
	case requestRenew:
		issued, err = s.renew(r, e)
	default:
		err = badFormat("the request type is neither Issue nor Renew", nil)
	}
	if err != nil {
		return "", answer{}, err
	}
	account, err := s.Account(r.Context(), issued)
	if err != nil {
		return "", answer{}, err
	}
	store := userStore
	if contextItem(e.body, "EnrollmentType") == "Device" {
		store = deviceStore
	}
	document, err := provision(issued, account, store, kind == requestRenew)
	if err != nil {
		return "", answer{}, err
	}
	now := s.Now()
	return "token", answer{
		Action: actionTokenReply, Created: now, Expires: now.Add(tokenValidity),
		Body: base64.StdEncoding.EncodeToString(document),
	}, nil
}

// binary is the BinarySecurityToken of a body; its type ends in kind.
func binary(body *element, kind string) ([]byte, error) {
	token := body.child(nsSecurity, "BinarySecurityToken")
	if token == nil || !strings.HasSuffix(token.attr("ValueType"), kind) {
		return nil, badRequest("a request of type "+kind+" is expected", nil)
	}
	return decode(string(token.text))
}

func decode(text string) ([]byte, error) {
	compact := strings.Join(strings.Fields(text), "")
	data, err := base64.StdEncoding.DecodeString(compact)
	if err != nil {
		return nil, badRequest("the request is not in base64", err)
	}
	return data, nil
}

func (s *server) enroll(r *http.Request, e *envelope) (enroll.Issued, error) {
	user := e.security.child(nsSecurity, "UsernameToken")
	if user == nil {
		return enroll.Issued{}, badSecurity("a user name and a one-time password are needed (UsernameToken)", nil)
	}
	der, err := binary(e.body, "#PKCS10")
	if err != nil {
		return enroll.Issued{}, err
	}
	request, err := pkcs10.Parse(der)
	if err != nil {
		return enroll.Issued{}, badRequest("the certificate request can't be taken", err)
	}
	login, err := otp.ParseLogin(user.child(nsSecurity, "Username").value(), user.child(nsSecurity, "Password").value())
	if err != nil {
		// As a wrong password.
		return enroll.Issued{}, notAuthentic(err)
	}
	defer login.Password.Erase()
	return s.Enroller.Enroll(r.Context(), enroll.Application{
		Skin: "windows", Source: source(r), ID: login.ID, User: login.User,
		Proof: enroll.Proof{Password: &login.Password}, Key: request.Key,
	})
}

// renew for a request that the present certificate has signed. What stands in a
// UsernameToken doesn't count: a one-time password is used up by now.
func (s *server) renew(r *http.Request, e *envelope) (enroll.Issued, error) {
	data, err := binary(e.body, "#PKCS7")
	if err != nil {
		return enroll.Issued{}, err
	}
	// Base64 once in an automatic renewal, twice in one that the user began.
	if len(data) > 0 && data[0] != 0x30 {
		if data, err = decode(string(data)); err != nil {
			return enroll.Issued{}, err
		}
	}
	signed, err := cms.ParseSigned(data, s.Legacy)
	if err != nil {
		return enroll.Issued{}, badRequest("the signed request can't be taken", err)
	}
	if tls := peer(r); tls != nil && !bytes.Equal(tls.Raw, signed.Signer.Raw) {
		return enroll.Issued{}, badSecurity("the request is signed by another certificate than that of TLS", nil)
	}
	request, err := pkcs10.Parse(signed.Content)
	if err != nil {
		return enroll.Issued{}, badRequest("the certificate request can't be taken", err)
	}
	certificate, err := x509.ParseCertificate(signed.Signer.Raw)
	if err != nil {
		return enroll.Issued{}, badRequest("the signer's certificate can't be taken", err)
	}
	return s.Enroller.Renew(r.Context(), enroll.Renewal{
		Skin: "windows", Source: source(r), Certificate: certificate, Key: request.Key,
	})
}

// contextItem is what the device says of itself, MS-MDE2 section 3.4.4.1.1.1.
func contextItem(body *element, name string) string {
	context := body.child(nsContext, "AdditionalContext")
	if context == nil {
		return ""
	}
	for _, item := range context.children {
		if item.attr("Name") == name {
			return item.child(nsContext, "Value").value()
		}
	}
	return ""
}
