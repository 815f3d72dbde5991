package scep

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/roamgate/roamgate/enrollment/cms"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/pkcs10"
)

// refusal is how a failure is told to the client.
type refusal struct {
	info failInfo
	text string
}

// Refusals that mustn't differ in what a stranger could learn from them.
var (
	// wrongEnvelope is for everything from opening an envelope to the signature
	// of the request in it.
	wrongEnvelope = refusal{badMessageCheck, "the enveloped request is damaged"}
	wrongPassword = refusal{badRequest, "the challenge password is wrong, used or expired"}
)

// answer returns a CertRep. An error is a Refusal that says to come back later,
// or that nothing could be decided.
func (s *server) answer(ctx context.Context, m *message, source netip.Addr) ([]byte, error) {
	ra := s.Authority()
	switch m.kind {
	case pkcsReq, renewalReq, updateReq:
	case getCert, certPoll:
		// Requests are decided at once: nothing is pending.
		return m.failed(ra, refusal{badCertID, "no such certificate or transaction here"})
	case getCRL:
		return m.failed(ra, refusal{badRequest, "revocation lists are fetched by HTTP"})
	default:
		return m.failed(ra, refusal{badRequest, "this message type is not supported"})
	}
	if _, ok := m.signer.Key.(*rsa.PublicKey); !ok {
		return m.failed(ra, refusal{badAlg, "SCEP needs RSA keys"})
	}
	request, scheme, err := s.open(m, ra)
	if err != nil {
		s.Log.Info("envelope refused", slog.String("skin", "scep"), slog.Any("source", source), slog.Any("error", err))
		if errors.Is(err, errScheme) {
			return m.failed(ra, refusal{badAlg, "this cipher or key transport is not supported"})
		}
		return m.failed(ra, wrongEnvelope)
	}
	// Who signed says what is asked for, not the type: some clients renew by a
	// PKCSReq, with the challenge password of then.
	var issued enroll.Issued
	if m.signer.SelfIssued() {
		issued, err = s.enroll(ctx, m, request, source)
	} else {
		issued, err = s.renew(ctx, m, request, source)
	}
	if err == nil {
		return m.issued(ra, scheme, issued.Certificate)
	}
	f, ok := explain(err)
	if !ok {
		return nil, err
	}
	return m.failed(ra, f)
}

// errScheme: an algorithm that shows on the envelope from outside.
var errScheme = errors.New("envelope")

func (s *server) open(m *message, ra Authority) (*pkcs10.Request, cms.Scheme, error) {
	der, scheme, err := cms.Open(m.envelope, ra.Certificate, ra.Key, s.Legacy)
	if errors.Is(err, cms.ErrAlgorithm) {
		return nil, scheme, errors.Join(errScheme, err)
	}
	if err != nil {
		return nil, scheme, err
	}
	defer clear(der)
	request, err := pkcs10.Parse(der)
	return request, scheme, err
}

// errSigner: the message isn't signed by whom it has to be.
var errSigner = errors.New("message signed by another key")

// errNoChallenge: signed by a key without a certificate, and no password.
var errNoChallenge = errors.New("neither a challenge password nor signed by a certificate")

// enroll for a challenge password. The message is signed with the key that
// asks (RFC 8894 section 2.3), so nobody can put another's envelope into a
// message of his own.
func (s *server) enroll(ctx context.Context, m *message, request *pkcs10.Request, source netip.Addr) (enroll.Issued, error) {
	if request.Challenge == "" {
		return enroll.Issued{}, errNoChallenge
	}
	if !equal(m.signer.Key, request.Key) {
		return enroll.Issued{}, errSigner
	}
	code, err := otp.ParseCode(request.Challenge)
	if err != nil {
		return enroll.Issued{}, err
	}
	defer code.Password.Erase()
	return s.Enroller.Enroll(ctx, enroll.Application{
		Skin: "scep", Source: source, ID: code.ID,
		Proof: enroll.Proof{Password: &code.Password}, Key: request.Key,
	})
}

// renew for the certificate that signed.
func (s *server) renew(ctx context.Context, m *message, request *pkcs10.Request, source netip.Addr) (enroll.Issued, error) {
	certificate, err := x509.ParseCertificate(m.signer.Raw)
	if err != nil {
		return enroll.Issued{}, &enroll.Refusal{Reason: enroll.NotRenewable, Detail: "it was not issued here"}
	}
	return s.Enroller.Renew(ctx, enroll.Renewal{Skin: "scep", Source: source, Certificate: certificate, Key: request.Key})
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// explain says how the client is told; not ok is for what HTTP tells.
func explain(err error) (f refusal, ok bool) {
	switch {
	case errors.Is(err, errSigner):
		return refusal{badMessageCheck, "the message is not signed with the key of the request"}, true
	case errors.Is(err, errNoChallenge):
		return refusal{badRequest, "a challenge password is needed"}, true
	case errors.Is(err, otp.ErrFormat):
		return wrongPassword, true
	}
	r := (*enroll.Refusal)(nil)
	if !errors.As(err, &r) || r.Reason == enroll.Limited {
		return refusal{}, false
	}
	switch r.Reason {
	case enroll.KeyRefused:
		f = refusal{badAlg, "this key is not accepted"}
	case enroll.NotRenewable:
		f = refusal{badCertID, "this certificate can't be renewed"}
	default:
		return wrongPassword, true
	}
	if r.Detail != "" {
		f.text += ": " + r.Detail
	}
	return f, true
}
