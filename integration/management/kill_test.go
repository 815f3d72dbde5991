package management

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/integration/postgres"
)

// Devices enroll while the processes die again and again. Afterwards each device
// that has a certificate has an account and was told its schedule once, and the
// events were followed to the last.
func TestKilledWhileEnrolling(t *testing.T) {
	t.Run("one process, SQLite", func(t *testing.T) {
		w := newWorld(t, "")
		stormOf(w, w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics))
	})
	t.Run("three processes, PostgreSQL", func(t *testing.T) {
		db := postgres.Start(t)
		w := newWorld(t, db.Name(db.Create(t)))
		stormOf(w, w.run("enrollment", w.file, portEnrollMetrics),
			w.run("manager", w.file, portDMMetrics), w.run("manager", w.secondManager(), portDMMetrics+second))
	})
}

func stormOf(w *world, victims ...*process) {
	t := w.t
	const devices, workers, kills = 40, 4, 3
	codes := make([]string, devices)
	for i := range codes {
		made, err := w.admins.CreateRequest(t.Context(), admin.NewRequest{User: "user-" + phoneName(i), Device: phoneName(i), Groups: []string{"sales"}})
		if err != nil {
			t.Fatal(err)
		}
		codes[i] = made.Code
	}
	var done atomic.Int64
	next := make(chan int, devices)
	for i := range devices {
		next <- i
	}
	close(next)
	var storm sync.WaitGroup
	for range workers {
		storm.Go(func() {
			for i := range next {
				code, err := otp.ParseCode(codes[i])
				if err != nil {
					t.Error(err)
					return
				}
				var pending *client.Pending
				save := func(p client.Pending) error { pending = &p; return nil }
				for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					_, err := client.Join(t.Context(), client.Options{Code: code, Server: w.port(portEnroll), Pending: pending, Save: save})
					if err == nil {
						break
					}
					if time.Now().After(end) {
						t.Errorf("device %d: %v", i, err)
						break
					}
				}
				done.Add(1)
			}
		})
	}
	for k := range kills {
		w.until("some have enrolled", func() bool { return done.Load() >= int64((k+1)*devices/(kills+1)) })
		v := victims[k%len(victims)]
		v.kill()
		v.start()
	}
	storm.Wait()

	events, err := w.admins.Outbox(t.Context(), 0, 1000)
	if err != nil || len(events) < devices {
		t.Fatalf("%d events, %v", len(events), err)
	}
	last := events[len(events)-1].Number
	w.until("all events were followed", func() bool {
		n, err := w.store.Followed(t.Context(), "enrollment")
		return err == nil && n == last
	})
	for i := range devices {
		v, err := w.store.Device(t.Context(), phoneName(i))
		if err != nil || !v.Open {
			t.Errorf("%s: %+v, %v", phoneName(i), v, err)
			continue
		}
		all, err := w.store.CommandsOfDevice(t.Context(), phoneName(i), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, c := range all {
			if strings.HasPrefix(c.Task, "schedule-") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%s is told its schedule %d times", phoneName(i), told)
		}
	}
}

func phoneName(i int) string { return fmt.Sprintf("phone-%02d", i) }
