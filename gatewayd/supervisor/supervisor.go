package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Config is what runs.
type Config struct {
	// Children are started at once and ended in reverse order.
	Children []Child
	// Grace is how long a child may take to end.
	Grace time.Duration
	// Serving is called once, when every child has served.
	Serving func()
	Logger  *slog.Logger
}

// Supervisor keeps children running.
type Supervisor struct {
	config  Config
	keepers []*keeper
}

// New makes a supervisor that has started nothing yet.
func New(c Config) *Supervisor {
	s := &Supervisor{config: c}
	for _, child := range c.Children {
		s.keepers = append(s.keepers, &keeper{child: child, grace: c.Grace, logger: c.Logger, served: make(chan struct{})})
	}
	return s
}

// Signal hands a signal, such as SIGHUP, to every child that runs.
func (s *Supervisor) Signal(signal os.Signal) {
	for _, k := range s.keepers {
		k.signal(signal)
	}
}

// Run starts the children and returns when all of them have ended: nil after ctx
// ended or after a child ended in order, or why a child can't be started.
func (s *Supervisor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	// A child's own end comes after that of those that were started after it.
	before := context.WithoutCancel(ctx)
	ends := make([]context.CancelFunc, len(s.keepers))
	gone := make([]chan struct{}, len(s.keepers))
	for i, k := range s.keepers {
		own, end := context.WithCancel(before)
		ends[i], gone[i] = end, make(chan struct{})
		running.Go(func() {
			defer close(gone[i])
			err := k.keep(own)
			if err == nil {
				return
			}
			if errors.Is(err, errEnded) {
				s.config.Logger.Info("role ended in order, so all of them do", slog.String("role", k.child.Name))
			} else {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
			cancel()
		})
	}
	running.Go(func() {
		for _, k := range s.keepers {
			select {
			case <-k.served:
			case <-ctx.Done():
				return
			}
		}
		if s.config.Serving != nil {
			s.config.Serving()
		}
	})
	<-ctx.Done()
	for i := len(s.keepers) - 1; i >= 0; i-- {
		ends[i]()
		<-gone[i]
	}
	running.Wait()
	return failed
}
