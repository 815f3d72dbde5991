package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// What a session with ten commands asks of the store, and what that costs
// PostgreSQL, whose processes aren't this one, in processor time.
func BenchmarkSession(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkSession(b, databasetest.SQLite(b), nil) })
	b.Run("postgres", func(b *testing.B) {
		p := postgres.Start(b)
		benchmarkSession(b, databasetest.Postgres(b, p), p)
	})
}

func benchmarkSession(b *testing.B, db *database.DB, p *postgres.Server) {
	const commands = 10
	ctx := b.Context()
	s := storetest.Store(b, db, nil)
	names := make([]string, b.N)
	for i := range names {
		names[i] = fmt.Sprint("device", i)
		if err := s.Enroll(ctx, store.Device{Name: names[i], Enrolled: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range commands {
		if _, _, err := s.Put(ctx, store.Task{
			ID: fmt.Sprint("task", i), Kind: "replace", By: "test", Created: time.Now(), Expires: time.Now().Add(time.Hour), Semantics: session.Idempotent,
			Command: &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{Target: syncml.Location{URI: fmt.Sprint("./A/", i)}, Data: []byte("new"), HasData: true}}},
		}, names...); err != nil {
			b.Fatal(err)
		}
	}
	var before time.Duration
	if p != nil {
		before = p.Time()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, device := range names {
		if _, err := s.Account(ctx, device); err != nil {
			b.Fatal(err)
		}
		tasks, err := s.Next(ctx, device, nil, 64)
		if err != nil || len(tasks) != commands {
			b.Fatal(len(tasks), err)
		}
		var claims []session.Claim
		r := session.Report{At: time.Now()}
		for _, k := range tasks {
			claims = append(claims, session.Claim{Task: k.ID, Attempt: k.Attempt})
			r.Outcomes = append(r.Outcomes, session.Outcome{Task: k.ID, Code: 200})
		}
		granted, err := s.Claim(ctx, device, claims)
		if err != nil || !granted[commands-1] {
			b.Fatal(granted, err)
		}
		if err := s.Record(ctx, device, r); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if p != nil {
		b.ReportMetric(float64((p.Time()-before).Microseconds())/float64(b.N), "postgres-us/op")
	}
}
