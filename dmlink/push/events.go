package push

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// Journal keeps what gateways told. A gateway is named by us, never by itself.
type Journal interface {
	// Cursor of the last event that was kept of a gateway, zero for none.
	Cursor(ctx context.Context, gateway string) (uint64, error)
	// Keep events in their order, and the cursor behind them, both or neither.
	// There may be a cursor and no events; both may be there already if another
	// manager reads this gateway, too.
	Keep(ctx context.Context, gateway string, events []gcm.Event, cursor uint64) error
	// Reset to no cursor: the gateway has lost its file and begins anew, without
	// the sessions that it had.
	Reset(ctx context.Context, gateway string) error
}

// listen to a gateway, whose newest cursor was newest when it was asked.
func (l *link) listen(ctx context.Context, c *client, newest uint64) error {
	journal := l.m.config.Journal
	after, err := journal.Cursor(ctx, l.gateway.Name)
	if err != nil {
		return err
	}
	if after > newest {
		l.log.Warn("gateway counts its events anew", slog.Uint64("had", after), slog.Uint64("has", newest))
		after = 0
		if err := journal.Reset(ctx, l.gateway.Name); err != nil {
			return err
		}
	}
	l.update(func(s *Status) { s.Cursor = after })
	// The journal takes what came while it kept the last ones, all at once.
	arrived := make(chan gcm.Event, eventBatch)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		defer close(arrived)
		end(c.events(ctx, after, func(e gcm.Event) error {
			select {
			case arrived <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
	}()
	for first := range arrived {
		batch := []gcm.Event{first}
		for more := true; more && len(batch) < eventBatch; {
			select {
			case e, ok := <-arrived:
				if more = ok; ok {
					batch = append(batch, e)
				}
			default:
				more = false
			}
		}
		// What arrived is kept, although the gateway may be gone.
		if err := l.keepEvents(context.WithoutCancel(ctx), batch); err != nil {
			end(err)
			for range arrived {
			}
			return err
		}
	}
	return context.Cause(ctx)
}

func (l *link) keepEvents(ctx context.Context, batch []gcm.Event) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	cursor := batch[len(batch)-1].Cursor
	var believed []gcm.Event
	unknown := 0
	for _, e := range batch {
		if e.Device != "" && !l.m.config.Known(e.Device) && (e.Kind != gcm.DeviceRefused || !l.refusals.allow(time.Now())) {
			if unknown++; unknown == 1 {
				l.log.Warn("gateway speaks of a device that isn't known", slog.String("device", e.Device), slog.String("kind", string(e.Kind)))
			}
			continue
		}
		believed = append(believed, e)
	}
	if err := l.m.config.Journal.Keep(ctx, l.gateway.Name, believed, cursor); err != nil {
		return errors.Join(errJournal, err)
	}
	l.update(func(s *Status) {
		s.Events += uint64(len(believed))
		s.Disbelieved += uint64(len(batch) - len(believed))
		s.LastEvent, s.Cursor = time.Now(), cursor
	})
	if slices.ContainsFunc(batch, movesSessions) {
		select {
		case l.moved <- struct{}{}:
		default:
		}
	}
	return nil
}

// movesSessions says whether a gateway has more or less of them after an event.
func movesSessions(e gcm.Event) bool {
	return e.Kind == gcm.SessionStarted || e.Kind == gcm.SessionEnded || e.Kind == gcm.Dropped
}

var errJournal = errors.New("events can't be kept")

const (
	// maxRefusals of devices that nobody knows are kept at once, and another one
	// each refusalTime.
	maxRefusals = 100
	refusalTime = 10 * time.Second
)

// refusals of devices that were closed: somebody tries with a certificate that is
// still good, or was. That is for the journal; it ends no session and says of no
// device where it is, so a gateway that makes them up fills its share and no more.
type refusals struct {
	left  int
	since time.Time // when left was counted
}

// allow one more.
func (r *refusals) allow(now time.Time) bool {
	if r.since.IsZero() {
		r.left, r.since = maxRefusals, now
	}
	if more := int(now.Sub(r.since) / refusalTime); more > 0 {
		r.left = min(maxRefusals, r.left+more)
		r.since = r.since.Add(time.Duration(more) * refusalTime)
	}
	if r.left == 0 {
		return false
	}
	r.left--
	return true
}
