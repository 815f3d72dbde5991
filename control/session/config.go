package session

import (
	"fmt"
	"log/slog"
	"slices"
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
	// Records is told of the start, the course and the end of each session, by
	// one goroutine, in order; nil if nobody wants to know. It may take its
	// time; Run returns when it has taken all.
	Records func(Record)
	// Notices is told of more, by the same goroutine, in the same order; nil if
	// nobody wants to know. Some get lost if it is slow.
	Notices func(Notice)
	// CookieSecret makes cookies. The zero value draws one.
	CookieSecret gate.Secret
	// CrashSecret tells peers after a restart that their IKE SAs are gone (RFC
	// 6290), if it is the one from before. The zero value tells nobody.
	CrashSecret gate.Secret
	// Logger gets a line for each session that comes up, is refused or ends;
	// nil logs nothing.
	Logger *slog.Logger
}

// Settings can be replaced as a whole while the server runs.
type Settings struct {
	// IKE is for exchanges to come. An IKE SA that is being established goes on
	// with what it began with.
	IKE *ike.Config
	// Admit applies to running sessions too.
	Admit *admit.Policy
	// Assign goes with each lease.
	Assign   ike.Settings
	Gate     gate.Config
	Liveness LivenessConfig
	Parking  ParkingConfig
	Records  RecordsConfig
	Redirect RedirectConfig
	// Resumption by tickets.
	Resumption ResumptionConfig
}

// RedirectConfig sends some devices to another gateway when they have proven
// who they are (RFC 5685 section 4). For all of them there is
// ike.Config.RedirectTo.
type RedirectConfig struct {
	To      string
	Devices []string
}

// of is where a device is sent; empty lets it in here.
func (r *RedirectConfig) of(device string) string {
	if slices.Contains(r.Devices, device) {
		return r.To
	}
	return ""
}

// LivenessConfig says when peers are asked whether they are there. A peer to
// which nothing is sent is not asked, however long it is silent: see
// ParkingConfig.
type LivenessConfig struct {
	// Idle is how long packets to a peer may go unanswered, by packets or IKE
	// messages; up to a quarter longer, so that not all are asked at once. 0
	// asks never.
	Idle time.Duration
}

// ParkingConfig is about devices that sleep. They are parked: SAs and lease are
// kept and nothing is sent to them.
type ParkingConfig struct {
	// Idle is how long nothing may come from a device before its session is
	// closed as ike.CloseIdle; up to a 24th longer, so that not all are closed
	// at once. 0 means 24 hours.
	Idle time.Duration
}

const defaultParking = 24 * time.Hour

func (p ParkingConfig) idle() time.Duration {
	if p.Idle == 0 {
		return defaultParking
	}
	return p.Idle
}

// RecordsConfig is about Config.Records.
type RecordsConfig struct {
	// Interim is how often there is a record of a session that is up; 0 means
	// only when it starts and stops.
	Interim time.Duration
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
	case s.Parking.Idle < 0:
		return fmt.Errorf("%w: Parking.Idle is %v, must not be negative", ErrConfig, s.Parking.Idle)
	case s.Resumption.Keys != nil && s.Resumption.Lifetime < minTicketLife || s.Resumption.Reauthenticate < 0:
		return fmt.Errorf("%w: Resumption.Lifetime is %v and Reauthenticate %v, must be %v at least and not negative",
			ErrConfig, s.Resumption.Lifetime, s.Resumption.Reauthenticate, minTicketLife)
	case s.Records.Interim < 0:
		return fmt.Errorf("%w: Records.Interim is %v, must not be negative", ErrConfig, s.Records.Interim)
	}
	if err := s.Gate.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
