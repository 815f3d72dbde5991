package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/join"
)

// DefaultDeadline within which all instances have to answer.
const DefaultDeadline = 3 * time.Second

// Local is the instance itself, which is all there is where no others are
// configured.
type Local struct {
	// Name under which this instance is published: HOST or HOST:PORT.
	Name   string
	Prover join.Prover
}

var (
	_ join.Finder = Local{}
	_ join.Finder = (*Published)(nil)
)

// Find asks this instance alone.
func (l Local) Find(ctx context.Context, q *join.Inquiry, source netip.Addr) ([]join.Server, error) {
	var found []join.Server
	err := l.Prover.Prove(ctx, q.ID(), source, func(key []byte) {
		if s, ok := q.Answer(key, l.Name); ok {
			found = []join.Server{s}
		}
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ErrIncomplete: not all instances could be asked, and those that were don't
// have the request.
var ErrIncomplete = errors.New("not all enrollment servers answered")

// Published asks itself and all other instances.
type Published struct {
	local    Local
	others   []*remote
	deadline time.Duration
	log      *slog.Logger
}

// Options of New.
type Options struct {
	Local Local
	// Identity of this instance towards the others.
	Identity Identity
	Others   []Instance
	// Deadline for each inquiry; DefaultDeadline if zero.
	Deadline time.Duration
	Log      *slog.Logger
}

// New finder over several instances.
func New(o Options) (*Published, error) {
	p := &Published{local: o.Local, deadline: o.Deadline, log: o.Log}
	if p.deadline == 0 {
		p.deadline = DefaultDeadline
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	for _, other := range o.Others {
		r, err := newRemote(other, o.Identity)
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", other.Name, err)
		}
		p.others = append(p.others, r)
	}
	return p, nil
}

// Find asks this instance, whose limits hold back who asks too often, and then
// all others at once. It waits for each of them, found or not, so that how long
// it takes tells nothing about the request.
func (p *Published) Find(ctx context.Context, q *join.Inquiry, source netip.Addr) ([]join.Server, error) {
	found, err := p.local.Find(ctx, q, source)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.deadline)
	defer cancel()
	type answer struct {
		servers []join.Server
		err     error
		of      *remote
	}
	answers := make(chan answer, len(p.others))
	for _, other := range p.others {
		go func() {
			servers, err := other.Find(ctx, q, source)
			answers <- answer{servers, err, other}
		}()
	}
	failed := 0
	for range p.others {
		a := <-answers
		if a.err != nil {
			failed++
			p.log.Warn("an enrollment server doesn't answer", slog.String("instance", a.of.Name), slog.Any("error", a.err))
		}
		found = append(found, a.servers...)
	}
	if len(found) == 0 && failed > 0 {
		return nil, fmt.Errorf("%w: %d of %d failed", ErrIncomplete, failed, len(p.others)+1)
	}
	return found, nil
}

// Close idle connections to the others.
func (p *Published) Close() {
	for _, other := range p.others {
		other.client.CloseIdleConnections()
	}
}
