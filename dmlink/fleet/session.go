package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Session of a device, as its gateway told it.
type Session struct {
	Device  string `json:"device"`
	Gateway string `json:"gateway"`
	// Session is hexadecimal.
	Session   string         `json:"session"`
	Since     time.Time      `json:"since"`
	Peer      netip.AddrPort `json:"peer"`
	Addresses []netip.Addr   `json:"addresses"`
}

const sessionColumns = `SELECT device, gateway, session, since_us, peer, addresses FROM gcm_session`

func scanSession(r database.Row) (s Session, err error) {
	var since database.Instant
	var peer, addresses string
	if err = r.Scan(&s.Device, &s.Gateway, &s.Session, &since, &peer, &addresses); err != nil {
		return s, err
	}
	s.Since = since.Time
	if peer != "" {
		if s.Peer, err = netip.ParseAddrPort(peer); err != nil {
			return s, err
		}
	}
	for _, a := range strings.Fields(addresses) {
		address, err := netip.ParseAddr(a)
		if err != nil {
			return s, err
		}
		s.Addresses = append(s.Addresses, address)
	}
	return s, nil
}

// Where a device is: its sessions, the newest last. There are several while it
// moves, and while a gateway that isn't connected may still have one.
func (f *Fleet) Where(ctx context.Context, device string) ([]Session, error) {
	return database.Query(ctx, f.db, scanSession, sessionColumns+` WHERE device = $1 ORDER BY since_us`, device)
}

// Sessions of devices behind a name, of all gateways or one.
func (f *Fleet) Sessions(ctx context.Context, gateway, after string, limit int) ([]Session, error) {
	var w database.Where
	w.Equal("gateway", gateway)
	w.After("device", after)
	return database.Query(ctx, f.db, scanSession, sessionColumns+w.Text("device, gateway", limit), w.Args...)
}

// EndSessions of a device at all gateways, and say at how many. Errors: those of
// push.Manager.End; what could be ended is.
func (f *Fleet) EndSessions(ctx context.Context, device string) (int, error) {
	places, err := f.Where(ctx, device)
	if err != nil {
		return 0, err
	}
	ended, wrong := 0, []error(nil)
	for _, s := range places {
		if err := f.end(ctx, s); err != nil {
			wrong = append(wrong, err)
			continue
		}
		ended++
	}
	return ended, errors.Join(wrong...)
}

// end a session. One that its gateway ends, or doesn't have, is over. The gateway
// tells so when the device has heard of it, or after a minute in which it hasn't:
// too late for who asks where a device is that went elsewhere without a word.
func (f *Fleet) end(ctx context.Context, s Session) error {
	if err := f.push.End(ctx, s.Gateway, s.Device, s.Session); err != nil && !errors.Is(err, push.ErrNoSession) {
		return err
	}
	return f.db.Write(ctx, func(t *database.Tx) error {
		_, err := t.Exec(`DELETE FROM gcm_session WHERE device = $1 AND gateway = $2 AND session = $3`, s.Device, s.Gateway, s.Session)
		return err
	})
}

// displaced sessions are ended: those of devices that have begun a newer one
// elsewhere, as a gateway says.
func (f *Fleet) displaced(ctx context.Context, by string, started []string) error {
	if len(started) == 0 {
		return nil
	}
	all, err := database.Query(ctx, f.db, scanSession, sessionColumns+` WHERE `+f.db.Among("device", "TEXT", 1)+` ORDER BY device, since_us, gateway`,
		database.Several(f.db.Engine, started))
	if err != nil {
		return err
	}
	for n := 0; n+1 < len(all); n++ {
		if all[n].Device == all[n+1].Device {
			f.ender.put(by, all[n])
		}
	}
	return nil
}

// displacedAt are the sessions at a gateway that has been away, of devices that
// have begun a newer one elsewhere meanwhile.
func (f *Fleet) displacedAt(ctx context.Context, gateway string) error {
	all, err := database.Query(ctx, f.db, scanSession, sessionColumns+` WHERE gateway = $1 AND EXISTS (
		SELECT 1 FROM gcm_session AS other WHERE other.device = gcm_session.device
		AND other.gateway <> gcm_session.gateway AND other.since_us > gcm_session.since_us)`, gateway)
	for _, s := range all {
		f.ender.put("", s)
	}
	return err
}

const (
	// enderWorkers end sessions at a time, enderQueue wait for them. Those that
	// don't fit are ended when their gateway connects again, or the device moves.
	enderWorkers = 8
	enderQueue   = 4096
	endTime      = 30 * time.Second
	// A gateway whose word ends a device's sessions elsewhere more often than
	// claims times within claimTime isn't believed for the rest of it: then
	// somebody lies, or a device is at two places at once.
	claims    = 10
	claimTime = 10 * time.Minute
	// What a gateway says of more than maxClaims devices in that time isn't, either.
	maxClaims = 1 << 18
)

// ender ends sessions.
type ender struct {
	f     *Fleet
	queue chan Session

	mu     sync.Mutex
	since  time.Time
	claims map[string]map[string]int // by gateway and device
}

func newEnder(f *Fleet) *ender {
	return &ender{f: f, queue: make(chan Session, enderQueue), claims: map[string]map[string]int{}}
}

// put a session that is to be ended, by the word of a gateway.
func (e *ender) put(by string, s Session) {
	if by != "" && by != s.Gateway && !e.believed(by, s.Device) {
		e.f.Log.Warn("a device is said to be at several gateways again and again: its sessions stay",
			slog.String("device", s.Device), slog.String("gateway", s.Gateway), slog.String("by", by))
		return
	}
	select {
	case e.queue <- s:
	default:
		e.f.Log.Warn("too many sessions to end", slog.String("device", s.Device), slog.String("gateway", s.Gateway))
	}
}

func (e *ender) believed(gateway, device string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.f.Now(); now.Sub(e.since) > claimTime {
		e.since = now
		clear(e.claims)
	}
	of := e.claims[gateway]
	if of == nil {
		of = map[string]int{}
		e.claims[gateway] = of
	}
	if len(of) == maxClaims && of[device] == 0 {
		return false
	}
	of[device]++
	return of[device] <= claims
}

func (e *ender) run(ctx context.Context) {
	var all sync.WaitGroup
	for range enderWorkers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case s := <-e.queue:
					e.end(ctx, s)
				}
			}
		})
	}
	all.Wait()
}

func (e *ender) end(ctx context.Context, s Session) {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	log := e.f.Log.With(slog.String("device", s.Device), slog.String("gateway", s.Gateway), slog.String("session", s.Session))
	if err := e.f.end(ctx, s); err != nil {
		log.Warn("an older session isn't ended yet", slog.Any("error", err))
		return
	}
	log.Info("an older session is ended: the device is elsewhere")
}
