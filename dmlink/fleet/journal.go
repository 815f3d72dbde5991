package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// journal is a Fleet as push.Journal: what gateways told, and where devices are
// by that. A gateway speaks for the sessions that it has itself: what it says ends
// none elsewhere.
type journal Fleet

// Cursor implements push.Journal.
func (j *journal) Cursor(ctx context.Context, gateway string) (uint64, error) {
	var cursor int64
	err := j.db.QueryRowContext(ctx, `SELECT cursor FROM gcm_gateway WHERE name = $1`, gateway).Scan(&cursor)
	return uint64(cursor), found(err, "gateway", gateway)
}

// Reset implements push.Journal.
func (j *journal) Reset(ctx context.Context, gateway string) error {
	return j.db.Write(ctx, func(t *database.Tx) error {
		if _, err := t.Exec(`DELETE FROM gcm_session WHERE gateway = $1`, gateway); err != nil {
			return err
		}
		_, err := t.Exec(`UPDATE gcm_gateway SET cursor = 0 WHERE name = $1`, gateway)
		return err
	})
}

// Keep implements push.Journal. Another manager may have kept some of them.
func (j *journal) Keep(ctx context.Context, gateway string, events []gcm.Event, cursor uint64) error {
	f := (*Fleet)(j)
	var started []string
	err := j.db.Write(ctx, func(t *database.Tx) error {
		started = nil
		now := f.Now()
		var had int64
		err := t.Row(`SELECT cursor FROM gcm_gateway WHERE name = $1`+t.ForUpdate(), gateway).Scan(&had)
		if err != nil {
			return found(err, "gateway", gateway)
		}
		if int64(cursor) <= had {
			return nil
		}
		k := keeping{t, gateway, now, map[string]*place{}}
		var rows [][]any
		for _, e := range events {
			if int64(e.Cursor) <= had {
				continue
			}
			body, err := json.Marshal(e)
			if err != nil {
				return err
			}
			rows = append(rows, []any{gateway, now.UnixMicro(), database.OrNull(e.Device), string(e.Kind), string(body)})
			if err := k.tell(e); err != nil {
				return err
			}
			if e.Kind == gcm.SessionStarted && e.Device != "" {
				started = append(started, e.Device)
			}
		}
		c := &change{Tx: t}
		if err := c.many(rows, func(values string) string {
			return `INSERT INTO gcm_event (gateway, received_us, device, kind, body) ` + values
		}, ""); err != nil {
			return err
		}
		if err := k.write(); err != nil {
			return err
		}
		_, err = t.Exec(`UPDATE gcm_gateway SET cursor = $1 WHERE name = $2`, int64(cursor), gateway)
		return err
	})
	if err != nil {
		return err
	}
	for _, device := range started {
		f.Started(device)
	}
	return f.displaced(ctx, gateway, started)
}

// keeping a batch of events of one gateway: what becomes of its devices is
// written once.
type keeping struct {
	t       *database.Tx
	gateway string
	now     time.Time
	places  map[string]*place
}

// place of a device at the gateway; its session is empty if it has none.
type place struct {
	session   string
	since     time.Time
	peer      netip.AddrPort
	addresses []netip.Addr
	changed   bool
}

func (k *keeping) tell(e gcm.Event) error {
	if e.Kind == gcm.Dropped && e.Reason == gcm.ReasonRestart {
		// Its sessions went with it.
		clear(k.places)
		_, err := k.t.Exec(`DELETE FROM gcm_session WHERE gateway = $1`, k.gateway)
		return err
	}
	if e.Device == "" {
		return nil
	}
	switch e.Kind {
	case gcm.SessionStarted:
		// Nothing happened later than now, whatever a gateway's clock says.
		if e.At.After(k.now) {
			e.At = k.now
		}
		k.places[e.Device] = &place{e.Session, e.At, e.Peer, e.Addresses, true}
	case gcm.SessionMoved:
		p, err := k.place(e.Device)
		if err != nil {
			return err
		}
		if p.session != "" && p.session == e.Session {
			p.peer, p.changed = e.Peer, true
		}
	case gcm.SessionEnded:
		p, err := k.place(e.Device)
		if err != nil {
			return err
		}
		// The end of an older session may come after the next one's start.
		if p.session != "" && p.session == e.Session {
			*p = place{changed: true}
		}
	case gcm.LeaseAssigned, gcm.DeviceRefused, gcm.AlertResult, gcm.Counters, gcm.Dropped:
	}
	return nil
}

func (k *keeping) place(device string) (*place, error) {
	if p := k.places[device]; p != nil {
		return p, nil
	}
	all, err := database.Query(k.t.Context(), k.t, scanSession, sessionColumns+` WHERE device = $1 AND gateway = $2`, device, k.gateway)
	if err != nil {
		return nil, err
	}
	p := &place{}
	for _, s := range all {
		*p = place{session: s.Session, since: s.Since, peer: s.Peer, addresses: s.Addresses}
	}
	k.places[device] = p
	return p, nil
}

func (k *keeping) write() error {
	var gone []string
	var rows [][]any
	for device, p := range k.places {
		switch {
		case !p.changed:
		case p.session == "":
			gone = append(gone, device)
		default:
			var addresses []string
			for _, a := range p.addresses {
				addresses = append(addresses, a.String())
			}
			peer := ""
			if p.peer.IsValid() {
				peer = p.peer.String()
			}
			rows = append(rows, []any{device, k.gateway, p.session, p.since.UnixMicro(), peer, strings.Join(addresses, " ")})
		}
	}
	if len(gone) > 0 {
		if _, err := k.t.Exec(`DELETE FROM gcm_session WHERE gateway = $1 AND `+k.t.Among("device", "TEXT", 2), k.gateway, database.Several(k.t.Engine, gone)); err != nil {
			return err
		}
	}
	c := &change{Tx: k.t}
	return c.many(rows, func(values string) string {
		return `INSERT INTO gcm_session (device, gateway, session, since_us, peer, addresses) ` + values + `
			ON CONFLICT (device, gateway) DO UPDATE SET session = excluded.session, since_us = excluded.since_us,
			peer = excluded.peer, addresses = excluded.addresses`
	}, "")
}

// Event that a gateway told.
type Event struct {
	ID      int64  `json:"id"`
	Gateway string `json:"gateway"`
	gcm.Event
}

// Events before an ID, zero for the newest, of a device or a gateway, or all; the
// newest first.
func (f *Fleet) Events(ctx context.Context, device, gateway string, before int64, limit int) ([]Event, error) {
	var w database.Where
	w.Equal("device", device)
	w.Equal("gateway", gateway)
	if before > 0 {
		w.Add("id < $%d", before)
	}
	return database.Query(ctx, f.db, func(r database.Row) (e Event, err error) {
		var body string
		if err = r.Scan(&e.ID, &e.Gateway, &body); err == nil {
			err = json.Unmarshal([]byte(body), &e.Event)
		}
		return e, err
	}, `SELECT id, gateway, body FROM gcm_event`+w.Text("id DESC", limit), w.Args...)
}

// eventsAtOnce are taken away by one statement.
const eventsAtOnce = 5000

// keepEvents for as long as Retention says.
func (f *Fleet) keepEvents(ctx context.Context) error {
	cutoff := f.Now().Add(-f.Retention).UnixMicro()
	for {
		var n int64
		err := f.db.Write(ctx, func(t *database.Tx) (err error) {
			n, err = t.Exec(fmt.Sprintf(`DELETE FROM gcm_event WHERE id IN (
				SELECT id FROM gcm_event WHERE received_us < $1 ORDER BY received_us LIMIT %d)`, eventsAtOnce), cutoff)
			return err
		})
		if err != nil || n < eventsAtOnce {
			return err
		}
	}
}
