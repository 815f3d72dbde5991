package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/directory"
)

// People knows users that the directory doesn't: an LDAP server, for example.
type People interface {
	// Person by user name or e-mail address; directory.ErrNotFound if there is
	// none.
	Person(ctx context.Context, nameOrEmail string) (directory.User, error)
}

// Options of a Service.
type Options struct {
	Directory *directory.SQL
	Issuer    *ca.Issuer
	// SealKey of SealKeySize octets keeps the keys of open requests unreadable
	// in the directory. All servers of one directory have the same. If it is
	// lost, open requests are too, and nothing else.
	SealKey []byte
	// People is asked who a request is for; nil takes the administrator's word.
	People        People
	Policy        Policy
	Configuration Configuration
	// Now is time.Now if nil.
	Now func() time.Time
	Log *slog.Logger
}

// Service decides. It is safe for concurrent use; several servers may share a
// directory, each counting sources for itself.
type Service struct {
	directory     *directory.SQL
	issuer        *ca.Issuer
	seal          *seal
	people        People
	policy        Policy
	configuration Configuration
	now           func() time.Time
	log           *slog.Logger

	// sources of wrong tries, and of proofs that were asked for.
	sources *limits
	proofs  *limits
	// refusals on their way to the directory: recording them where they happen
	// would tell by time what the answer hides.
	refusals chan refusal
	counters counters
	trust    trust
}

// Bounds of tables and queues.
const (
	maxSources  = 65_536
	maxRefusals = 4_096
)

// New makes a service; its CA is known to the directory when it returns. Run
// has to run beside it.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Directory == nil || o.Issuer == nil {
		return nil, errors.New("enrollment needs a directory and an issuer")
	}
	policy, err := o.Policy.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("enrollment policy: %w", err)
	}
	seal, err := newSeal(o.SealKey)
	if err != nil {
		return nil, err
	}
	s := &Service{
		directory: o.Directory, issuer: o.Issuer, seal: seal, people: o.People, policy: policy,
		configuration: o.Configuration, now: o.Now, log: o.Log,
		sources:  newLimits(policy.SourceBurst, policy.SourceEvery, maxSources),
		proofs:   newLimits(policy.ProofBurst, policy.ProofEvery, maxSources),
		refusals: make(chan refusal, maxRefusals),
	}
	s.counters.m.Refused = make(map[Reason]uint64)
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := o.Directory.AddAuthority(ctx, o.Issuer.ID(), o.Issuer.Certificate()); err != nil {
		return nil, err
	}
	return s, nil
}

// Policy in force, with its defaults.
func (s *Service) Policy() Policy { return s.policy }

// Configuration that devices are told.
func (s *Service) Configuration() Configuration { return s.configuration }

// Directory behind the service, to read from.
func (s *Service) Directory() *directory.SQL { return s.directory }

// Outbox is what happened after an event, in the order of commits, at most max.
func (s *Service) Outbox(ctx context.Context, after int64, max int) ([]directory.Event, error) {
	return s.directory.Outbox(ctx, after, max)
}

// TakeOver takes the record of a CA that was kept in its directory of files
// until now. Doing it again changes nothing.
func (s *Service) TakeOver(ctx context.Context, a *ca.CA) error {
	now := s.now()
	return a.HandOver(now, "enrollment directory "+s.directory.ID(), func(r ca.Record) error {
		return s.directory.TakeOver(ctx, self, s.issuer.ID(), r, now)
	})
}

// self is who does what nobody asked for.
var self = directory.By{Name: "server"}

func skinBy(skin string, source netip.Addr) directory.By {
	return directory.By{Name: "device by " + skin, Source: source.Unmap()}
}
