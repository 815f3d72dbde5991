package admin

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// CertificatePath names a certificate.
type CertificatePath struct {
	Serial string `path:"serial" maxLength:"64"`
}

func (s *server) certificates(api huma.API) {
	type list struct {
		Paging
		Device  string `query:"device" maxLength:"64"`
		Name    string `query:"name" maxLength:"64"`
		Profile string `query:"profile" enum:"device,gateway,server,peer,admin,ra"`
		Valid   bool   `query:"valid" doc:"Leave out what was revoked or is over."`
	}
	huma.Register(api, operation(http.MethodGet, "/v1/certificates", "list-certificates", "List certificates", "certificates"),
		func(ctx context.Context, in *list) (*body[Page[Certificate]], error) {
			f := directory.CertificateFilter{
				Device: in.Device, Name: in.Name, Profile: ca.Profile(in.Profile), After: in.After, Limit: in.Limit + 1,
			}
			if in.Valid {
				f.ValidAt = s.Now()
			}
			found, err := s.Directory.Certificates(ctx, f)
			if err != nil {
				return nil, s.problem(err)
			}
			return &body[Page[Certificate]]{pageOf(found, in.Limit, func(c directory.Certificate) Certificate {
				c.DER = nil
				return certificateOf(c)
			}, func(c directory.Certificate) string { return c.Serial })}, nil
		})
	huma.Register(api, operation(http.MethodGet, "/v1/certificates/{serial}", "show-certificate", "Show a certificate", "certificates"),
		func(ctx context.Context, in *CertificatePath) (*body[Certificate], error) {
			return s.certificate(ctx, in.Serial)
		})
	issue := operation(http.MethodPost, "/v1/certificates", "issue-certificate",
		"Issue the certificate of an administrator, gateway, server or other instance", "certificates")
	issue.DefaultStatus = http.StatusCreated
	huma.Register(api, issue, s.issue)
	huma.Register(api, operation(http.MethodPost, "/v1/certificates/{serial}/revoke", "revoke-certificate", "Revoke a certificate, and what was renewed from it unless it is superseded", "certificates"),
		func(ctx context.Context, in *struct {
			CertificatePath
			Body Revocation
		}) (*body[Certificate], error) {
			reason, err := reasonOf(in.Body.Reason)
			if err != nil {
				return nil, err
			}
			serial, err := ca.ParseSerial(in.Serial)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity("serial: " + err.Error())
			}
			if err := s.Service.Revoke(ctx, by(ctx), serial, reason); err != nil {
				return nil, s.problem(err)
			}
			return s.certificate(ctx, ca.SerialString(serial))
		})
}

func (s *server) issue(ctx context.Context, in *body[NewCertificate]) (*body[IssuedCertificate], error) {
	block, _ := pem.Decode([]byte(in.Body.CSR))
	if block == nil {
		return nil, huma.Error422UnprocessableEntity("csr: not PKCS#10 in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("csr: %v", err))
	}
	r := ca.Request{
		Profile: ca.Profile(in.Body.Profile), PublicKey: csr.PublicKey, Name: in.Body.Name, DNSNames: in.Body.DNSNames,
		Lifetime: time.Duration(in.Body.Days) * 24 * time.Hour,
	}
	for _, text := range in.Body.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("addresses: %q is none", text))
		}
		r.Addresses = append(r.Addresses, a)
	}
	issued, err := s.Service.Certify(ctx, by(ctx), r)
	if err != nil {
		return nil, s.problem(err)
	}
	made, err := s.certificate(ctx, ca.SerialString(issued.Certificate.SerialNumber))
	if err != nil {
		return nil, err
	}
	made.Body.PEM = string(ca.EncodeCertificates(issued.Certificate))
	return &body[IssuedCertificate]{IssuedCertificate{Certificate: made.Body, Chain: string(ca.EncodeCertificates(issued.Chain...))}}, nil
}

func (s *server) certificate(ctx context.Context, serial string) (*body[Certificate], error) {
	n, err := ca.ParseSerial(serial)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("serial: " + err.Error())
	}
	c, err := s.Directory.Certificate(ctx, ca.SerialString(n))
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Certificate]{certificateOf(c)}, nil
}

func reasonOf(name string) (ca.Reason, error) {
	if name == "" {
		return ca.Unspecified, nil
	}
	reason, err := ca.ParseReason(name)
	if err != nil {
		return reason, huma.Error422UnprocessableEntity("reason: " + err.Error())
	}
	return reason, nil
}

func certificateOf(c directory.Certificate) Certificate {
	out := Certificate{
		Serial: c.Serial, Profile: string(c.Profile), Name: c.Name, Device: c.Device, Request: c.Request, Renews: c.Renews,
		Issued: c.Issued, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Revoked: c.Revoked, SHA256: hex.EncodeToString(c.SHA256),
	}
	if !c.Revoked.IsZero() {
		out.Reason = c.Reason.String()
	}
	if len(c.DER) > 0 {
		out.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
	}
	return out
}
