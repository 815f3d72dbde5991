package management

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// evidence of all sides at this moment.
func (s *storm) evidence(ctx context.Context) (*evidence, error) {
	e := &evidence{
		Devices: map[string]*deviceEvidence{}, Gateways: map[string]*gatewayEvidence{}, Committed: map[string]sectionEvidence{},
		Certificates: map[string]certificateEvidence{}, Followed: map[string]int64{}, Wanted: map[string]string{},
	}
	var asked sync.WaitGroup
	all := make([]*deviceEvidence, len(s.roamers))
	for i, r := range s.roamers {
		asked.Go(func() { all[i] = r.evidence(ctx) })
	}
	asked.Wait()
	for i, r := range s.roamers {
		e.Devices[r.name] = all[i]
	}
	for _, o := range s.outposts {
		g, err := o.evidence(ctx)
		if err != nil {
			return nil, err
		}
		e.Gateways[o.name] = g
	}
	s.mu.Lock()
	e.Acknowledged = append(e.Acknowledged, s.acknowledged...)
	s.mu.Unlock()
	if err := s.committed(ctx, e); err != nil {
		return nil, err
	}
	for name := range e.Gateways {
		g, err := client.Call(ctx, s.manager, api.GatewayShow, &api.OneGateway{Gateway: name})
		if err != nil {
			return nil, err
		}
		for _, v := range g.Sections {
			e.Wanted[v.Section] = v.Wanted
		}
	}
	if _, err := client.Call(ctx, s.manager, api.AuditVerify, &api.VerifyAudit{}); err != nil {
		e.Audit = err.Error()
	}
	if err := s.recorded(ctx, e); err != nil {
		return nil, err
	}
	var err error
	e.Listed, err = s.listed(ctx)
	return e, err
}

// committed documents, read as a manager that starts now reads them.
func (s *storm) committed(ctx context.Context, e *evidence) error {
	agent, err := x509.OIDFromInts([]uint64{2, 25, 1}) // nobody is dialled
	if err != nil {
		return err
	}
	f, err := fleet.New(ctx, s.w.db, fleet.Options{
		SealKey: s.key, Log: slog.New(slog.DiscardHandler),
		Identity: push.Identity{Certificate: func() (*tls.Certificate, error) { return nil, io.EOF }, Roots: s.w.root, Agent: agent},
		Sign:     func(context.Context, push.Gateway, *x509.CertificateRequest) ([]byte, error) { return nil, io.EOF },
	})
	if err != nil {
		return err
	}
	for _, section := range gcm.Sections {
		v, h, _ := f.Documents().Version(section)
		e.Committed[string(section)] = sectionEvidence{v.String(), h.String(), true}
	}
	return nil
}

// recorded in the database.
func (s *storm) recorded(ctx context.Context, e *evidence) error {
	device := func(name string) *deviceEvidence {
		if e.Devices[name] == nil {
			e.Devices[name] = &deviceEvidence{}
		}
		return e.Devices[name]
	}
	var name, text, more string
	var n int64
	var yes bool
	var octets []byte
	for _, q := range []struct {
		query string
		into  []any
		each  func() error
	}{
		{`SELECT name FROM directory_device WHERE state = 'open'`, []any{&name}, func() error {
			device(name).Enrolled = true
			return nil
		}},
		{`SELECT name FROM dm_device WHERE state = 'open'`, []any{&name}, func() error {
			device(name).Managed = true
			return nil
		}},
		{`SELECT name, value FROM gcm_device`, []any{&name, &octets}, func() error {
			v, err := gcm.Decode(gcm.Devices, gcm.Record{Key: gcm.DeviceKey(name), Value: octets})
			if err != nil {
				return err
			}
			a := v.(gcm.Authorisation)
			d := device(name)
			d.Authorised, d.Barred, d.Addresses = true, a.Barred, texts(a.Addresses)
			return nil
		}},
		{`SELECT serial FROM gcm_revocation`, []any{&octets}, func() error {
			e.Pushed = append(e.Pushed, ca.SerialString(new(big.Int).SetBytes(octets)))
			return nil
		}},
		{`SELECT serial, device_name, revoked_us IS NOT NULL FROM directory_certificate WHERE device_name IS NOT NULL`, []any{&text, &name, &yes}, func() error {
			e.Certificates[text] = certificateEvidence{name, yes}
			return nil
		}},
		{`SELECT task_id, device_name, state, code BETWEEN 200 AND 299 FROM dm_command`, []any{&text, &name, &more, &yes}, func() error {
			e.Commands = append(e.Commands, commandEvidence{text, name, more, yes})
			return nil
		}},
		{`SELECT COALESCE(MAX(number), 0) FROM directory_outbox`, []any{&n}, func() error {
			e.Outbox = n
			return nil
		}},
		{`SELECT 'device management ' || source, number FROM dm_followed UNION SELECT 'gateways ' || feed, number FROM gcm_cursor`, []any{&text, &n}, func() error {
			e.Followed[text] = n
			return nil
		}},
		{`SELECT device, gateway, addresses FROM gcm_session`, []any{&name, &more, &text}, func() error {
			e.Sessions = append(e.Sessions, sessionEvidence{name, more, strings.Fields(text)})
			return nil
		}},
	} {
		if err := rows(ctx, s.w.db.DB, q.query, q.into, q.each); err != nil {
			return fmt.Errorf("%s: %w", q.query, err)
		}
	}
	return nil
}

// ending is how far devices are whom an acknowledged operation closes: the state
// of its command, what the device has done of it, and how it last came.
func (s *storm) ending(ctx context.Context) (text string) {
	s.mu.Lock()
	acknowledged := slices.Clone(s.acknowledged)
	s.mu.Unlock()
	for _, o := range acknowledged {
		if !o.closes() {
			continue
		}
		r := s.roamer(o.Device)
		text += fmt.Sprintf("\n%s of %s", o.Kind, o.Device)
		if o.Task != "" {
			all, err := s.sealed.CommandsOfTask(ctx, o.Task, "", 0)
			if text += ", task " + o.Task; err != nil {
				text += ": " + err.Error()
			}
			for _, c := range all {
				text += fmt.Sprintf(": %s, sent %d times, code %d", c.State, c.Attempt, c.Code)
			}
		}
		_, wiped := r.executed()
		r.mu.Lock()
		text += fmt.Sprintf("; wiped %d times; last session at %s", wiped, r.came)
		r.mu.Unlock()
	}
	return text
}

// told is what gateways told last of devices that have several sessions.
func (s *storm) told(ctx context.Context) (text string) {
	var gateway, body string
	err := rows(ctx, s.w.db.DB, `SELECT gateway, body FROM gcm_event WHERE kind <> 'counters' AND (device IS NULL OR device IN (
		SELECT device FROM gcm_session GROUP BY device HAVING COUNT(*) > 1)) ORDER BY id DESC LIMIT 60`,
		[]any{&gateway, &body}, func() error {
			text += "\n\t" + gateway + " " + body
			return nil
		})
	if err != nil {
		return err.Error()
	}
	return "\ngateways told, the newest first:" + text
}

func rows(ctx context.Context, db *sql.DB, query string, into []any, each func() error) error {
	list, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer list.Close()
	for list.Next() {
		if err := list.Scan(into...); err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
	}
	return list.Err()
}

// listed on the revocation list that anybody gets.
func (s *storm) listed(ctx context.Context) (serials []string, err error) {
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.w.root}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.w.port(portEnroll)+"/crl", nil)
	if err != nil {
		return nil, err
	}
	answer, err := https.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	der, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, v := range list.RevokedCertificateEntries {
		serials = append(serials, ca.SerialString(v.SerialNumber))
	}
	return serials, nil
}
