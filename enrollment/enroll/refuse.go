package enroll

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// refusal on its way to the directory.
type refusal struct {
	at      time.Time
	by      directory.By
	reason  Reason
	detail  string
	request string
	device  string
	// guessed are requests whose password was guessed wrong.
	guessed []otp.ID
}

func reasonOf(q directory.Request, now time.Time) Reason {
	switch q.State {
	case directory.Used:
		return Used
	case directory.Cancelled:
		return Cancelled
	case directory.Exhausted:
		return Exhausted
	case directory.Expired:
		return Expired
	case directory.Open:
		if !now.Before(q.Expires) {
			return Expired
		}
	}
	return WrongPassword
}

// guessed refuses whoever didn't know a password.
func (s *Service) guessed(ctx context.Context, skin string, source netip.Addr, candidates []candidate, now time.Time) error {
	s.sources.spend(source, now)
	reason, about := Unknown, (*directory.Request)(nil)
	var wrong []otp.ID
	for i, c := range candidates {
		if !c.found {
			continue
		}
		reason, about = reasonOf(c.q, now), &candidates[i].q
		if reason == WrongPassword {
			wrong = append(wrong, c.id)
		}
	}
	if len(wrong) > 0 {
		reason = WrongPassword
	}
	return s.refuse(ctx, skin, source, about, &Refusal{Reason: reason}, wrong...)
}

// limited tells a source to come later. It costs nothing else: that is its
// purpose.
func (s *Service) limited(skin string, source netip.Addr, wait time.Duration) error {
	s.counters.add(func(m *Metrics) { m.Refused[Limited]++ })
	s.log.Debug("enrollment limited", slog.String("skin", skin), slog.Any("source", source), slog.Duration("wait", wait))
	return &Refusal{Reason: Limited, RetryAfter: max(wait.Round(time.Second), time.Second)}
}

// refuse counts and logs a refusal, and hands it to whoever records it.
func (s *Service) refuse(ctx context.Context, skin string, source netip.Addr, q *directory.Request, r *Refusal, guessed ...otp.ID) error {
	s.counters.add(func(m *Metrics) { m.Refused[r.Reason]++ })
	e := refusal{at: s.now(), by: skinBy(skin, source), reason: r.Reason, detail: r.Detail, guessed: guessed}
	if q != nil {
		e.device = q.Device
		if q.ID != (otp.ID{}) {
			e.request = q.ID.String()
		}
	}
	s.log.WarnContext(ctx, "enrollment refused", slog.Any("reason", r.Reason), slog.String("skin", skin), slog.Any("source", source),
		slog.String("request", e.request), slog.String("device", e.device), slog.String("detail", r.Detail))
	select {
	case s.refusals <- e:
	default:
		s.counters.add(func(m *Metrics) { m.Unrecorded++ })
	}
	return r
}

// recorder writes refusals to the directory. Strangers can make any number of
// them, so the audit record takes a bounded number an hour and counts the rest.
type recorder struct {
	s       *Service
	left    int
	hour    time.Time
	skipped int
}

const auditPerHour = 1000

// record what came, up to max of it.
func (r *recorder) record(ctx context.Context, max int) {
	guesses := make(map[otp.ID]int64)
	var entries []directory.Entry
	now := r.s.now()
	if now.Sub(r.hour) >= time.Hour {
		r.left, r.hour = auditPerHour, now
	}
	for range max {
		var e refusal
		select {
		case e = <-r.s.refusals:
		default:
			max = 0
		}
		if max == 0 {
			break
		}
		for _, id := range e.guessed {
			guesses[id]++
		}
		if r.left == 0 {
			r.skipped++
			continue
		}
		r.left--
		detail := string(e.reason)
		if e.detail != "" {
			detail += ": " + e.detail
		}
		if r.skipped > 0 {
			detail += fmt.Sprintf(" (%d refusals before this one are not recorded)", r.skipped)
			r.skipped = 0
		}
		entries = append(entries, directory.Entry{At: e.at, By: e.by, Action: directory.ActRefuse, Request: e.request, Device: e.device, Detail: detail})
	}
	if len(entries) > 0 {
		if err := r.s.directory.AddAudit(ctx, entries...); err != nil {
			r.s.log.ErrorContext(ctx, "refusals not recorded", slog.Int("count", len(entries)), slog.Any("error", err))
			r.s.counters.add(func(m *Metrics) { m.Unrecorded += uint64(len(entries)) })
		}
	}
	for id, n := range guesses {
		err := r.s.directory.Guessed(ctx, self, id, n, r.s.policy.Guesses, now)
		if err != nil && !isGone(err) {
			r.s.log.ErrorContext(ctx, "wrong guesses not recorded", slog.String("request", id.String()), slog.Any("error", err))
		}
	}
}
