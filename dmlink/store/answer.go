package store

import (
	"bytes"
	"compress/flate"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Answer is what a device said of a command beside its status.
type Answer struct {
	Parts   []session.Part  `json:"parts,omitempty"`
	Results []session.Value `json:"results,omitempty"`
}

// packAnswer as dm_answer has it; nil if there is none beside the status.
func packAnswer(o session.Outcome) ([]byte, error) {
	if len(o.Parts) == 0 && len(o.Results) == 0 {
		return nil, nil
	}
	return pack(Answer{Parts: o.Parts, Results: o.Results})
}

// answer of a command; the last one stays.
func (t *tx) answer(id int64, o session.Outcome) error {
	packed, err := packAnswer(o)
	if err != nil || packed == nil {
		return err
	}
	_, err = t.Exec(`INSERT INTO dm_answer (command_id, octets) VALUES ($1, $2)
		ON CONFLICT (command_id) DO UPDATE SET octets = excluded.octets`, id, packed)
	return err
}

// Answer to a command by its ID; empty if the device said no more than a status.
func (d *SQL) Answer(ctx context.Context, command int64) (a Answer, err error) {
	var packed []byte
	err = d.db.QueryRowContext(ctx, `SELECT octets FROM dm_answer WHERE command_id = $1`, command).Scan(&packed)
	if errors.Is(err, sql.ErrNoRows) {
		return a, nil
	}
	if err != nil {
		return a, unavailable(err)
	}
	return a, unpack(packed, &a)
}

// Alert that a device told.
type Alert struct {
	ID         int64
	At         time.Time
	Code       int
	Correlator string
	Items      []syncml.Item
}

// keptAlerts is how many of a device are kept, the newest.
const keptAlerts = 100

// alert of a device whose row is locked. A generic one with a Correlator ends
// the command that the device had accepted.
func (t *tx) alert(device string, a session.Alert, at int64) error {
	items, err := pack(a.Items)
	if err != nil {
		return err
	}
	if _, err := t.Exec(`INSERT INTO dm_alert (device_name, at_us, code, correlator, items) VALUES ($1, $2, $3, $4, $5)`,
		device, at, int64(a.Code), text(a.Correlator), items); err != nil {
		return err
	}
	if _, err := t.Exec(`DELETE FROM dm_alert WHERE device_name = $1 AND id <= (
			SELECT id FROM dm_alert WHERE device_name = $2 ORDER BY id DESC LIMIT 1 OFFSET `+strconv.Itoa(keptAlerts)+`)`, device, device); err != nil {
		return err
	}
	if a.Code != syncml.AlertGeneric || a.Correlator == "" {
		return nil
	}
	code := resultCode(a.Items)
	type done struct{ id, closes int64 }
	ended, err := query(t.Context(), t, func(r database.Row) (n done, err error) { return n, r.Scan(&n.id, &n.closes) },
		`UPDATE dm_command SET state = 'answered', code = $1, ended_us = $2 WHERE task_id = $3 AND device_name = $4 AND state = 'accepted'
		RETURNING id, (SELECT closes FROM dm_task WHERE dm_task.id = dm_command.task_id)`, int64(code), at, text(a.Correlator), device)
	if err != nil {
		return err
	}
	for _, n := range ended {
		var results []session.Value
		for _, i := range a.Items {
			results = append(results, session.Value{URI: i.Source.URI, Format: i.Meta.Format, Type: i.Meta.Type, Data: i.Data})
		}
		if err := t.answer(n.id, session.Outcome{Results: results}); err != nil {
			return err
		}
		if n.closes != 0 && succeeded(code) {
			if err := t.wiped(device, n.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// resultCode that a generic alert tells in the Data of its first item; without
// one the alert itself is the good news.
func resultCode(items []syncml.Item) int {
	if len(items) > 0 {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(items[0].Data))); err == nil && n >= 100 && n < 10000 {
			return n
		}
	}
	return syncml.StatusOK
}

// Alerts of a device, the newest first; the last hundred are kept.
func (d *SQL) Alerts(ctx context.Context, device string) ([]Alert, error) {
	return query(ctx, d.db, func(r database.Row) (a Alert, err error) {
		var at database.Instant
		var items []byte
		if err := r.Scan(&a.ID, &at, &a.Code, &a.Correlator, &items); err != nil {
			return a, err
		}
		a.At = at.Time
		return a, unpack(items, &a.Items)
	}, `SELECT id, at_us, code, correlator, items FROM dm_alert WHERE device_name = $1 ORDER BY id DESC`, device)
}

// Bounds on what is kept of a device's own words in its first package.
const (
	maxInfoNodes = 64
	maxInfoData  = 16 << 10
)

// info of a device whose row is locked: what it doesn't tell any more goes.
func (t *tx) info(device string, r session.Report) error {
	if r.InfoDigest != nil {
		if _, err := t.Exec(`UPDATE dm_device SET info_digest = $1 WHERE name = $2`, r.InfoDigest, device); err != nil {
			return err
		}
	}
	if len(r.DevInfo) == 0 {
		return nil
	}
	if _, err := t.Exec(`DELETE FROM dm_info WHERE device_name = $1`, device); err != nil {
		return err
	}
	var uris, formats, types, devices []string
	var values [][]byte
	var times []int64
	place := map[string]int{} // of what is told twice the last
	for _, v := range r.DevInfo[:min(len(r.DevInfo), maxInfoNodes)] {
		if len(v.Data) > maxInfoData || len(v.URI) > maxURI {
			continue
		}
		uri := text(v.URI)
		if i, twice := place[uri]; twice {
			values[i] = orEmpty(v.Data)
			continue
		}
		place[uri] = len(uris)
		devices, uris, formats, types = append(devices, device), append(uris, uri), append(formats, text(v.Format)), append(types, text(v.Type))
		values, times = append(values, orEmpty(v.Data)), append(times, r.At.UnixMicro())
	}
	if err := t.Insert("dm_info", "", database.Texts("device_name", devices), database.Texts("uri", uris), database.Texts("format", formats),
		database.Texts("type", types), database.Blobs("data", values), database.Numbers("at_us", times)); err != nil {
		return err
	}
	if err := t.bump(device); err != nil {
		return err
	}
	return t.inventory(device, inventory.Update{At: r.At, Values: r.DevInfo})
}

// maxURI is longer than any that a device may have.
const maxURI = 1024

// Info is what a device last said of itself.
func (d *SQL) Info(ctx context.Context, device string) ([]session.Value, error) {
	return query(ctx, d.db, func(r database.Row) (v session.Value, err error) {
		return v, r.Scan(&v.URI, &v.Format, &v.Type, &v.Data)
	}, `SELECT uri, format, type, data FROM dm_info WHERE device_name = $1 ORDER BY uri`, device)
}

// pack as compressed JSON.
func pack(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return deflate(plain)
}

func unpack(packed []byte, v any) error {
	plain, err := inflate(packed, maxPacked)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, v)
}

// maxPacked is more than what a session keeps of one package.
const maxPacked = 64 << 20

// writers of compressed octets: one is 600 KB of tables, which cost more to make
// than a message to compress.
var writers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func deflate(plain []byte) ([]byte, error) {
	w := writers.Get().(*flate.Writer)
	defer writers.Put(w)
	var b bytes.Buffer
	w.Reset(&b)
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// inflaters have tables that are worth keeping.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

func inflate(packed []byte, most int64) ([]byte, error) {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(packed), nil); err != nil {
		return nil, err
	}
	// Text becomes some five times as long; a guess that is right is one allocation.
	plain := bytes.NewBuffer(make([]byte, 0, 6*len(packed)+bytes.MinRead))
	if _, err := plain.ReadFrom(io.LimitReader(r, most+1)); err != nil {
		return nil, fmt.Errorf("stored octets: %w", err)
	}
	if int64(plain.Len()) > most {
		return nil, fmt.Errorf("stored octets: more than %d", most)
	}
	return plain.Bytes(), nil
}
