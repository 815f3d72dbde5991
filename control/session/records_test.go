package session

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/dataplane"
)

// book keeps records, on the recorder's goroutine.
type book struct {
	mu   sync.Mutex
	all  []Record
	hold chan struct{} // writing waits for it to be closed
}

func (b *book) write(r Record) {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		<-hold
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, r)
}

func (b *book) events() (events []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.all {
		events = append(events, r.Device+" "+string(r.Event))
	}
	return events
}

// A session leaves a start, interim records, and a stop whose figures are
// final, those of rekeyed Child SAs included.
func TestRecordsOfASession(t *testing.T) {
	b := &book{}
	run(t, options{config: func(c *Config) {
		c.Records = b.write
		c.Settings.Records.Interim = time.Hour
	}}, func(w *world) {
		d := w.connect("phone")
		id := w.only().ID
		w.later(time.Second)
		w.net.heard(d.virtualIP(), time.Now())
		w.net.Tell(dataplane.LimitReached{Inbound: w.only().Inbound})
		w.settled()
		w.net.said(d.virtualIP(), time.Now())
		w.later(150 * time.Minute)
		began := time.Now()
		w.net.heard(d.virtualIP(), time.Now()) // nobody reads the counters between this and the end
		d.order <- ike.Close{Reason: ike.CloseKilled}
		w.settled()

		events := b.events()
		if n := len(events); events[0] != "phone start" || events[n-1] != "phone stop" || n < 4 || n > 5 {
			t.Fatalf("records %q", events)
		}
		start, interim, stop := b.all[0], b.all[1], b.all[len(b.all)-1]
		w.want("start's figures", start.Traffic, Traffic{})
		w.want("interim", interim.Event, RecordInterim)
		w.want("interim's figures", interim.Traffic, Traffic{BytesIn: 100, PacketsIn: 1, BytesOut: 1000, PacketsOut: 1})
		w.want("stop's figures", stop.Traffic, Traffic{BytesIn: 200, PacketsIn: 2, BytesOut: 1000, PacketsOut: 1})
		w.want("reason", stop.Reason, ike.ClosePeerDeleted)
		w.want("time", stop.Time, began)
		for _, r := range b.all {
			w.want("session", r.Session, sessionHex(uint64(id)))
			w.want("device", r.Device, "phone")
			w.want("group", r.Group, "field")
			w.want("virtual IP", r.VirtualIPs[0], d.virtualIP())
			w.want("remote", r.Remote, netip.AddrPortFrom(d.addr, 4500))
			w.want("established", r.Established, start.Time)
			w.want("IKE", r.IKE, d.summary.IKE)
			w.want("ESP", r.ESP, "AES_GCM_16_128")
		}
		line, err := json.Marshal(stop)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`"event":"stop"`, `"device":"phone"`, `"remote":"10.1.0.2:4500"`, `"bytes_in":200`, `"packets_out":1`, `"reason":"peer_deleted"`} {
			if !strings.Contains(string(line), part) {
				t.Errorf("no %s in %s", part, line)
			}
		}
	})
}

func sessionHex(id uint64) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 16)
	for i := range b {
		b[i] = digits[id>>(60-4*i)&15]
	}
	return string(b)
}

// At the end of Run all stops are written, those of peers that don't answer
// too. Who never came up leaves none.
func TestRecordsAtTheEnd(t *testing.T) {
	b := &book{}
	run(t, options{config: func(c *Config) { c.Records = b.write }}, func(w *world) {
		polite, gone := w.connect("polite"), w.connect("gone")
		gone.vanish()
		w.net.heard(polite.virtualIP(), time.Now())
		w.net.set(func() { w.net.applyErr = dataplane.ErrInvalid })
		w.connect("stranger")
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		events := b.events()
		slices.Sort(events)
		if want := []string{"gone start", "gone stop", "polite start", "polite stop"}; !slices.Equal(events, want) {
			t.Errorf("records %q, want %q", events, want)
		}
		for _, r := range b.all {
			if r.Event == RecordStop && r.Device == "polite" {
				w.want("bytes", r.BytesIn, uint64(100))
			}
			if r.Event == RecordStop {
				w.want("reason", r.Reason, ike.CloseShutdown)
			}
		}
	})
}

// A writer that stands still holds up no session. Starts and interim records
// are lost then, stops are not.
func TestRecordsWithAStuckWriter(t *testing.T) {
	b := &book{}
	run(t, options{scripted: true, config: func(c *Config) { c.Records = b.write }}, func(w *world) {
		b.hold = make(chan struct{})
		m := w.open(1)
		w.up(m, ike.Summary{Device: "first", Inbound: 1})
		for range recordBacklog {
			w.server.records.put(Record{Event: RecordInterim})
		}
		other := w.open(2)
		w.up(other, ike.Summary{Device: "second", Inbound: 2})
		w.want("lost", w.server.Stats().Drops[ReasonRecordLost.String()], uint64(1))
		w.emit(m, ike.Closed{Reason: ike.ClosePeerDeleted})
		w.emit(other, ike.Closed{Reason: ike.ClosePeerDeleted})
		w.want("sessions", len(w.server.Sessions()), 0)
		b.mu.Lock()
		close(b.hold)
		b.hold = nil
		b.mu.Unlock()
		w.settled()
		events := b.events()
		if last := events[len(events)-2:]; !slices.Equal(last, []string{"first stop", "second stop"}) {
			t.Errorf("the last records are %q", last)
		}
		w.want("first record", events[0], "first start")
	})
}

// The period of interim records is changed by a reload; the first ones of
// sessions that came at once don't come at once.
func TestInterimPeriod(t *testing.T) {
	b := &book{}
	run(t, options{scripted: true, config: func(c *Config) { c.Records = b.write }}, func(w *world) {
		for n := range byte(50) {
			w.up(w.open(n+1), ike.Summary{Device: string([]byte{'a' + n/10, 'a' + n%10}), Inbound: dataplane.SPI(n) + 1})
		}
		set := func(d time.Duration) {
			settings := *w.server.settings.Load()
			settings.Records.Interim = d
			if err := w.server.Update(settings); err != nil {
				t.Fatal(err)
			}
		}
		count := func() int { return len(b.events()) - 50 }
		w.later(10 * time.Hour)
		w.want("without a period", count(), 0)
		set(time.Hour)
		w.later(45 * time.Minute)
		if n := count(); n < 10 || n > 40 {
			t.Errorf("%d of 50 records after three quarters of the first period", n)
		}
		w.later(15 * time.Minute)
		w.want("after the first period", count(), 50)
		set(time.Minute)
		w.later(10 * time.Minute)
		w.want("by the minute", count(), 550)
		set(0)
		w.later(time.Hour)
		w.want("without a period", count(), 550)
	})
}
