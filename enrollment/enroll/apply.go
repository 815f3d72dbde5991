package enroll

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"net/netip"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// minCandidates is how many passwords are tried at least for a user's name, so
// that the time doesn't tell how many requests there are.
const minCandidates = 4

// candidate is a request that an application may be about.
type candidate struct {
	id    otp.ID
	q     directory.Request
	found bool
}

// Enroll decides about an application. Its errors are a *Refusal, or mean that
// it can't be decided now; then trying again with the same key is safe: what
// was committed is found, and what wasn't never left.
func (s *Service) Enroll(ctx context.Context, a Application) (Issued, error) {
	issued, err := s.enroll(ctx, a)
	if err != nil && !errors.Is(err, ErrRefused) {
		s.counters.add(func(m *Metrics) { m.Failed++ })
		s.log.ErrorContext(ctx, "enrollment failed", slog.String("skin", a.Skin), slog.Any("source", a.Source),
			slog.String("request", a.ID.String()), slog.Any("error", err))
	}
	return issued, err
}

func (s *Service) enroll(ctx context.Context, a Application) (Issued, error) {
	now := s.now()
	if wait := s.sources.wait(a.Source, now); wait > 0 {
		return Issued{}, s.limited(a.Skin, a.Source, wait)
	}
	hash, err := otp.HashPublicKey(a.Key)
	if err != nil {
		return Issued{}, s.refuse(ctx, a.Skin, a.Source, nil, &Refusal{Reason: KeyRefused})
	}
	candidates, err := s.candidates(ctx, a.ID, a.User)
	if err != nil {
		return Issued{}, err
	}
	var match *candidate
	var key []byte
	for i := range candidates {
		if bound := s.proves(ctx, candidates[i], a.Proof, hash, now); bound != nil {
			match, key = &candidates[i], bound
		}
	}
	if match == nil {
		return Issued{}, s.guessed(ctx, a.Skin, a.Source, candidates, now)
	}
	defer clear(key)
	issued, err := s.decide(ctx, a, match.q, hash, key, now)
	if err == nil && a.Proof.Password == nil {
		issued.Key = bytes.Clone(key)
	}
	return issued, err
}

// candidates of an ID, and of a user's name: those are filled up with decoys. Where
// both are given it isn't known which is meant, and the password says.
func (s *Service) candidates(ctx context.Context, id otp.ID, user string) ([]candidate, error) {
	var all []candidate
	if id != (otp.ID{}) {
		q, err := s.directory.Request(ctx, id)
		if err != nil && !errors.Is(err, directory.ErrNotFound) {
			return nil, err
		}
		all = append(all, candidate{id, q, err == nil})
		if user == "" {
			return all, nil
		}
	}
	named := len(all)
	// A name that nobody can have is unknown without asking: PostgreSQL takes no
	// NUL and nothing but UTF-8, and that would look like an outage.
	if user = canonical(user); checkText("user", user) == nil {
		requests, err := s.directory.RequestsOf(ctx, user, maxOpenPerUser)
		if err != nil {
			return nil, err
		}
		for _, q := range requests {
			if q.ID != id {
				all = append(all, candidate{q.ID, q, true})
			}
		}
	}
	for i := len(all) - named; i < minCandidates; i++ {
		all = append(all, candidate{id: otp.ID{byte(i)}})
	}
	return all, nil
}

// proves returns the bound key if the proof was made with the password of this
// request. The work is the same for requests that aren't there.
func (s *Service) proves(ctx context.Context, c candidate, p Proof, hash []byte, now time.Time) []byte {
	key := s.keyOf(ctx, c, now)
	bound := otp.Bind(key, hash)
	clear(key)
	if c.found && c.q.State == directory.Used && now.Before(c.q.Expires) {
		if kept, err := s.seal.open(c.id, afterUse, c.q.Secret); err == nil {
			bound = kept
		}
	}
	var ok bool
	switch {
	case p.Password != nil:
		tried := p.Password.Key(c.id)
		theirs := otp.Bind(tried, hash)
		ok = subtle.ConstantTimeCompare(theirs, bound) == 1
		clear(tried)
		clear(theirs)
	case p.Verify != nil:
		ok = p.Verify(bound)
	}
	// A decoy is known to nobody; should it match all the same, it proves
	// nothing.
	if !ok || !c.found || c.q.State != directory.Used && !openAt(c.q, now) {
		clear(bound)
		return nil
	}
	return bound
}

func openAt(q directory.Request, now time.Time) bool {
	return q.State == directory.Open && now.Before(q.Expires)
}

// keyOf is the key of an open request, a decoy for all else.
func (s *Service) keyOf(ctx context.Context, c candidate, now time.Time) []byte {
	decoy := s.seal.decoyKey(c.id)
	if !c.found || !openAt(c.q, now) {
		return decoy
	}
	key, err := s.seal.open(c.id, whileOpen, c.q.Secret)
	if err != nil {
		s.log.ErrorContext(ctx, "request can't be opened: was the seal key replaced?", slog.String("request", c.id.String()), slog.Any("error", err))
		return decoy
	}
	clear(decoy)
	return key
}

// decide what whoever knows the password gets.
func (s *Service) decide(ctx context.Context, a Application, q directory.Request, hash, bound []byte, now time.Time) (Issued, error) {
	if q.State == directory.Used {
		return s.again(ctx, a, q, hash)
	}
	if err := s.policy.CheckKey(a.Key); err != nil {
		return Issued{}, s.refuse(ctx, a.Skin, a.Source, &q, &Refusal{Reason: KeyRefused, Detail: err.Error()})
	}
	c, err := s.issuer.Sign(now, ca.Request{Profile: ca.Device, PublicKey: a.Key, Name: q.Device, Lifetime: s.policy.Lifetime})
	if err != nil {
		return Issued{}, err
	}
	// From here on all or nothing: whoever comes second finds the request used.
	err = s.directory.Enroll(ctx, directory.Enrollment{
		Request: q.ID, Signed: directory.Signed{Authority: s.issuer.ID(), Profile: ca.Device, Certificate: c, KeyHash: hash},
		Secret: s.seal.seal(q.ID, afterUse, bound), At: now, By: skinBy(a.Skin, a.Source), Detail: describeKey(c),
	})
	switch {
	case err == nil:
	case errors.Is(err, directory.ErrNotOpen):
		return s.raced(ctx, a, q.ID, hash, now)
	case errors.Is(err, directory.ErrKeyTaken):
		return Issued{}, s.refuse(ctx, a.Skin, a.Source, &q, &Refusal{Reason: KeyRefused, Detail: "the key belongs to another device: make a new one"})
	default:
		return Issued{}, err
	}
	s.counters.add(func(m *Metrics) { m.Enrolled++ })
	s.log.InfoContext(ctx, "device enrolled", slog.String("device", q.Device), slog.String("user", q.User), slog.String("request", q.ID.String()), slog.String("skin", a.Skin),
		slog.Any("source", a.Source), slog.String("serial", ca.SerialString(c.SerialNumber)), slog.Time("not_after", c.NotAfter))
	return s.issued(c, q.Device, q.User, false), nil
}

func describeKey(c *x509.Certificate) string {
	return fmt.Sprintf("%s key, until %s", c.PublicKeyAlgorithm, c.NotAfter.UTC().Format(time.RFC3339))
}

// raced: somebody else closed the request after it was read.
func (s *Service) raced(ctx context.Context, a Application, id otp.ID, hash []byte, now time.Time) (Issued, error) {
	q, err := s.directory.Request(ctx, id)
	if err != nil {
		return Issued{}, err
	}
	if q.State == directory.Used {
		return s.again(ctx, a, q, hash)
	}
	return Issued{}, s.refuse(ctx, a.Skin, a.Source, &q, &Refusal{Reason: reasonOf(q, now)})
}

// again gives the certificate that a request was used for to the same key.
func (s *Service) again(ctx context.Context, a Application, q directory.Request, hash []byte) (Issued, error) {
	if subtle.ConstantTimeCompare(q.KeyHash, hash) != 1 {
		return Issued{}, s.refuse(ctx, a.Skin, a.Source, &q, &Refusal{Reason: Used})
	}
	recorded, err := s.directory.Certificate(ctx, q.Serial)
	if err != nil {
		return Issued{}, err
	}
	if !recorded.Revoked.IsZero() {
		return Issued{}, s.refuse(ctx, a.Skin, a.Source, &q, &Refusal{Reason: Used})
	}
	c, err := x509.ParseCertificate(recorded.DER)
	if err != nil {
		return Issued{}, fmt.Errorf("recorded certificate %s: %w", q.Serial, err)
	}
	s.counters.add(func(m *Metrics) { m.Again++ })
	s.log.InfoContext(ctx, "certificate given again", slog.String("device", q.Device), slog.String("request", q.ID.String()), slog.String("skin", a.Skin),
		slog.Any("source", a.Source), slog.String("serial", q.Serial))
	return s.issued(c, q.Device, q.User, true), nil
}

func (s *Service) issued(c *x509.Certificate, device, user string, again bool) Issued {
	return Issued{
		Certificate: c, Chain: s.issuer.Chain(), Device: device, User: user, Again: again,
		RenewFrom: c.NotAfter.Add(-s.policy.RenewBefore),
	}
}

// Prove lends the key of an open request to our own protocol, to show a device
// that this server knows its password before it applies. For a request that
// isn't open it is a decoy, which is the same each time. use keeps no
// reference.
func (s *Service) Prove(ctx context.Context, id otp.ID, source netip.Addr, use func(key []byte)) error {
	now := s.now()
	if wait := s.proofs.wait(source, now); wait > 0 {
		return s.limited("prove", source, wait)
	}
	s.proofs.spend(source, now)
	q, err := s.directory.Request(ctx, id)
	if err != nil && !errors.Is(err, directory.ErrNotFound) {
		return err
	}
	key := s.keyOf(ctx, candidate{id, q, err == nil}, now)
	defer clear(key)
	use(key)
	return nil
}

// Check says which open request a password is for, without using it; by ID, user
// name, or either. Wrong ones count as in Enroll.
func (s *Service) Check(ctx context.Context, id otp.ID, user string, password *otp.Password, source netip.Addr) (directory.Request, error) {
	const skin = "check"
	now := s.now()
	if wait := s.sources.wait(source, now); wait > 0 {
		return directory.Request{}, s.limited(skin, source, wait)
	}
	candidates, err := s.candidates(ctx, id, user)
	if err != nil {
		return directory.Request{}, err
	}
	var match *directory.Request
	for i, c := range candidates {
		key, tried := s.keyOf(ctx, c, now), password.Key(c.id)
		if subtle.ConstantTimeCompare(key, tried) == 1 && c.found {
			match = &candidates[i].q
		}
		clear(key)
		clear(tried)
	}
	if match == nil {
		return directory.Request{}, s.guessed(ctx, skin, source, candidates, now)
	}
	match.Secret = nil
	return *match, nil
}
