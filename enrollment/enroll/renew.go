package enroll

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// renewalsWithin is the time in which renewals of a device are counted.
const renewalsWithin = 24 * time.Hour

// Renew decides about a further certificate of the same device. Its errors are
// those of Enroll. The old certificate stays valid to its end.
func (s *Service) Renew(ctx context.Context, r Renewal) (Issued, error) {
	issued, err := s.renew(ctx, r)
	if err != nil && !errors.Is(err, ErrRefused) {
		s.counters.add(func(m *Metrics) { m.Failed++ })
		s.log.ErrorContext(ctx, "renewal failed", slog.String("skin", r.Skin), slog.Any("source", r.Source), slog.Any("error", err))
	}
	return issued, err
}

func (s *Service) renew(ctx context.Context, r Renewal) (Issued, error) {
	now := s.now()
	if wait := s.sources.wait(r.Source, now); wait > 0 {
		return Issued{}, s.limited(r.Skin, r.Source, wait)
	}
	about := &directory.Request{}
	refuse := func(reason Reason, detail string) (Issued, error) {
		return Issued{}, s.refuse(ctx, r.Skin, r.Source, about, &Refusal{Reason: reason, Detail: detail})
	}
	old, err := s.renewable(ctx, r.Certificate, now)
	if why := (*notRenewable)(nil); errors.As(err, &why) {
		s.sources.spend(r.Source, now)
		return refuse(NotRenewable, why.text)
	}
	if err != nil {
		return Issued{}, err
	}
	about.Device = old.Device
	if err := s.policy.CheckKey(r.Key); err != nil {
		return refuse(KeyRefused, err.Error())
	}
	hash, err := otp.HashPublicKey(r.Key)
	if err != nil {
		return refuse(KeyRefused, "")
	}
	device, err := s.directory.Device(ctx, old.Device)
	if err != nil {
		return Issued{}, err
	}
	if !device.Open {
		return refuse(NotRenewable, "the device is closed")
	}
	// An answer that was lost comes before the question whether it is time.
	switch issued, err := s.renewedBefore(ctx, r, device, old.Serial, hash); {
	case err == nil:
		return issued, nil
	case !errors.Is(err, directory.ErrNotFound):
		return Issued{}, err
	}
	if from := old.NotAfter.Add(-s.policy.RenewBefore); now.Before(from) {
		return refuse(NotRenewable, "renew it from "+from.UTC().Format(time.RFC3339))
	}
	c, err := s.issuer.Sign(now, ca.Request{Profile: ca.Device, PublicKey: r.Key, Name: device.Name, Lifetime: s.policy.Lifetime})
	if err != nil {
		return Issued{}, err
	}
	err = s.directory.Renew(ctx, directory.Renewal{
		Renews: old.Serial, Signed: directory.Signed{Authority: s.issuer.ID(), Profile: ca.Device, Certificate: c, KeyHash: hash},
		At: now, By: skinBy(r.Skin, r.Source), Detail: describeKey(c) + ", renews " + old.Serial,
		Most: s.policy.Renewals, Since: now.Add(-renewalsWithin),
	})
	switch {
	case err == nil:
	case errors.Is(err, directory.ErrRenewed):
		return s.renewedBefore(ctx, r, device, old.Serial, hash)
	case errors.Is(err, directory.ErrRevoked), errors.Is(err, directory.ErrClosed):
		return refuse(NotRenewable, "it was revoked")
	case errors.Is(err, directory.ErrKeyTaken):
		return refuse(KeyRefused, "the key belongs to another device: make a new one")
	case errors.Is(err, directory.ErrTooMany):
		return Issued{}, s.refuse(ctx, r.Skin, r.Source, about, &Refusal{Reason: Limited, Detail: "too many renewals of this device", RetryAfter: time.Hour})
	default:
		return Issued{}, err
	}
	s.counters.add(func(m *Metrics) { m.Renewed++ })
	s.log.InfoContext(ctx, "certificate renewed", slog.String("device", device.Name), slog.String("skin", r.Skin), slog.Any("source", r.Source),
		slog.String("serial", ca.SerialString(c.SerialNumber)), slog.String("renews", old.Serial), slog.Time("not_after", c.NotAfter))
	return s.issued(c, device.Name, device.User, false), nil
}

type notRenewable struct{ text string }

func (n *notRenewable) Error() string { return n.text }

// renewable finds a certificate in the record, octet by octet: who presents it
// has proved to hold its key, not that it is one of ours.
func (s *Service) renewable(ctx context.Context, c *x509.Certificate, now time.Time) (directory.Certificate, error) {
	if c == nil {
		return directory.Certificate{}, &notRenewable{"no certificate was presented"}
	}
	old, err := s.directory.Certificate(ctx, ca.SerialString(c.SerialNumber))
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return old, &notRenewable{"it was not issued here"}
	case err != nil:
		return old, err
	case !bytes.Equal(old.DER, c.Raw):
		return old, &notRenewable{"it was not issued here"}
	case old.Profile != ca.Device || old.Device == "":
		return old, &notRenewable{"it is no device's"}
	case !old.Revoked.IsZero():
		return old, &notRenewable{"it was revoked"}
	case !now.Before(old.NotAfter):
		return old, &notRenewable{"it has expired"}
	}
	return old, nil
}

// renewedBefore finds the certificate whose answer was lost.
func (s *Service) renewedBefore(ctx context.Context, r Renewal, device directory.Device, serial string, hash []byte) (Issued, error) {
	recorded, err := s.directory.RenewalOf(ctx, serial, hash)
	if err != nil {
		return Issued{}, err
	}
	c, err := x509.ParseCertificate(recorded.DER)
	if err != nil {
		return Issued{}, fmt.Errorf("recorded certificate %s: %w", recorded.Serial, err)
	}
	s.counters.add(func(m *Metrics) { m.Again++ })
	s.log.InfoContext(ctx, "certificate given again", slog.String("device", device.Name), slog.String("skin", r.Skin),
		slog.Any("source", r.Source), slog.String("serial", recorded.Serial))
	return s.issued(c, device.Name, device.User, true), nil
}
