package session

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/dataplane"
)

// Config of a Server.
type Config struct {
	Settings
	// Shards that machines are spread over, at most 256; 0 means one.
	Shards int
	// Workers that compute; 0 means GOMAXPROCS.
	Workers int
	// MaxSessions is how many devices may have a session; 0 means no limit but
	// the leases.
	MaxSessions int
	// Backend forwards. Its transport is read by the server alone.
	Backend dataplane.Backend
	// Events is the channel that was given to the backend.
	Events <-chan dataplane.Event
	Leases Leases
	// Keys is told the keys of IKE and Child SAs if Settings.IKE exports them.
	// It must not block. For debugging only.
	Keys func(ike.KeysDerived)
	// CookieSecret makes cookies. The zero value draws one.
	CookieSecret gate.Secret
	// Logger gets a line for each session that comes up, is refused or ends;
	// nil logs nothing.
	Logger *slog.Logger
}

// Settings can be replaced as a whole while the server runs.
type Settings struct {
	// IKE is for machines to come; running ones keep what they began with.
	IKE *ike.Config
	// Admit applies to running sessions too.
	Admit *admit.Policy
	// Assign goes with each lease.
	Assign   ike.Settings
	Gate     gate.Config
	Liveness LivenessConfig
}

// LivenessConfig says when silent peers are asked whether they are there.
type LivenessConfig struct {
	// Idle is how long nothing may come from a peer; 0 asks never.
	Idle time.Duration
}

// Leases is what the server needs of a *lease.Registry.
type Leases interface {
	Acquire(lease.Request, func(lease.Grant, error))
	End(device string, s lease.SessionID)
}

var _ Leases = (*lease.Registry)(nil)

// maxShards: the shard's number is the first octet of our SPIs.
const maxShards = 256

func (c *Config) check() error {
	switch {
	case c.Backend == nil:
		return fmt.Errorf("%w: no Backend", ErrConfig)
	case c.Leases == nil:
		return fmt.Errorf("%w: no Leases", ErrConfig)
	case c.Shards < 0 || c.Shards > maxShards:
		return fmt.Errorf("%w: Shards is %d, must be 0 to %d", ErrConfig, c.Shards, maxShards)
	case c.Workers < 0:
		return fmt.Errorf("%w: Workers is %d, must not be negative", ErrConfig, c.Workers)
	case c.MaxSessions < 0:
		return fmt.Errorf("%w: MaxSessions is %d, must not be negative", ErrConfig, c.MaxSessions)
	}
	return c.Settings.check()
}

func (s *Settings) check() error {
	switch {
	case s.IKE == nil:
		return fmt.Errorf("%w: no IKE", ErrConfig)
	case s.IKE.Rand == nil:
		return fmt.Errorf("%w: no IKE.Rand", ErrConfig)
	case s.Admit == nil:
		return fmt.Errorf("%w: no Admit", ErrConfig)
	case s.Liveness.Idle < 0:
		return fmt.Errorf("%w: Liveness.Idle is %v, must not be negative", ErrConfig, s.Liveness.Idle)
	}
	if err := s.Gate.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
