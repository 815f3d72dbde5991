package enroll

import (
	"context"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// Trust is what gateways and devices need to judge each other.
type Trust struct {
	Root    *x509.Certificate
	Issuing *x509.Certificate
	// Chain from the issuing CA to the root, both included.
	Chain []*x509.Certificate
	// CRL is the complete revocation list in DER, with its number. Delta is to
	// it (RFC 5280 section 5.2.4), and empty while there is none.
	CRL       []byte
	CRLNumber int64
	Delta     []byte
	// Number of the newest of both.
	Number int64
	// Until is the nextUpdate of the complete list.
	Until time.Time
}

// trust remembers lists for a second, because anybody may ask for them.
type trust struct {
	mu    sync.Mutex
	lists directory.Lists
	until time.Time
}

func (t *trust) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Time{}
}

// Trust as it is now. Lists that are behind are made on the way; revocations
// by another server of the same directory are seen within a second.
func (s *Service) Trust(ctx context.Context) (Trust, error) {
	l, err := s.lists(ctx)
	if err != nil {
		return Trust{}, err
	}
	return Trust{
		Root: s.issuer.Root(), Issuing: s.issuer.Certificate(), Chain: s.issuer.Chain(),
		CRL: l.Complete, CRLNumber: l.CompleteNumber, Delta: l.Delta, Number: l.Number, Until: l.Until,
	}, nil
}

func (s *Service) lists(ctx context.Context) (directory.Lists, error) {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	now := s.now()
	if now.Before(s.trust.until) {
		return s.trust.lists, nil
	}
	l, err := s.directory.Lists(ctx, s.issuer.ID())
	if err != nil {
		return l, err
	}
	if p := s.publication(now); l.Behind || p.Due(l) {
		if l, err = s.publish(ctx, now, false); err != nil {
			return l, err
		}
	}
	s.trust.lists, s.trust.until = l, now.Add(time.Second)
	return l, nil
}

// PublishCRL makes a complete revocation list, due or not.
func (s *Service) PublishCRL(ctx context.Context) error {
	_, err := s.publish(ctx, s.now(), true)
	s.trust.forget()
	return err
}

func (s *Service) publication(now time.Time) directory.Publish {
	return directory.Publish{
		Authority: s.issuer.ID(), Now: now, Lifetime: s.policy.CRLLifetime, DeltaOnly: s.policy.CompleteUpTo,
		CompleteEvery: s.policy.CompleteEvery, Sign: s.issuer.SignList, By: self,
	}
}

func (s *Service) publish(ctx context.Context, now time.Time, force bool) (directory.Lists, error) {
	p := s.publication(now)
	p.Force = force
	l, err := s.directory.Publish(ctx, p)
	if err == nil {
		s.log.InfoContext(ctx, "revocation list published", slog.Int64("number", l.Number), slog.Int64("complete", l.CompleteNumber),
			slog.Int64("entries", l.Entries))
	}
	return l, err
}
