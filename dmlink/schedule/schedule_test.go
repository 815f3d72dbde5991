package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

var enrolled = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

// A device that nobody answers for two days, and then somebody does.
func TestNext(t *testing.T) {
	s := Default()
	s.Jitter = 0
	last := enrolled.Add(50 * time.Hour)
	for _, c := range []struct {
		last  time.Time
		tries int
		want  time.Duration
	}{
		{time.Time{}, 0, 3 * time.Minute},
		{time.Time{}, 1, 15 * time.Minute},
		{time.Time{}, 2, 30 * time.Minute},
		{time.Time{}, 192, 48 * time.Hour},
		{time.Time{}, 193, 56 * time.Hour},
		{time.Time{}, 194, 64 * time.Hour},
		{last, 0, 58 * time.Hour},
		{last, 1, 66 * time.Hour},
	} {
		if got := s.Next("d", enrolled, c.last, c.tries).Sub(enrolled); got != c.want {
			t.Errorf("after %d tries, last at %v: %v, want %v", c.tries, c.last, got, c.want)
		}
	}
}

// Devices that came at the same moment, after an outage, don't the next time.
func TestSpread(t *testing.T) {
	s := Default()
	const devices, slots = 60_000, 60
	var count [slots]int
	for i := range devices {
		at := s.Next(fmt.Sprint("device", i), enrolled, enrolled, 0).Sub(enrolled)
		early := at - (s.Every - s.Jitter)
		if early < 0 || early > 2*s.Jitter {
			t.Fatalf("device %d comes after %v", i, at)
		}
		count[min(slots-1, int(early*slots/(2*s.Jitter)))]++
	}
	// Five standard deviations; nothing here is drawn, so this holds or doesn't.
	mean := float64(devices) / slots
	for slot, n := range count {
		if math.Abs(float64(n)-mean) > 5*math.Sqrt(mean) {
			t.Errorf("minute %d has %d devices, mean %v", slot, n, mean)
		}
	}
	if a, b := s.Next("d", enrolled, enrolled, 0), s.Next("d", enrolled, enrolled, 0); !a.Equal(b) {
		t.Errorf("%v, then %v", a, b)
	}
}

func TestCommand(t *testing.T) {
	s := Default()
	s.Jitter = 0
	want := []string{
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/NumberOfFirstRetries=1",
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/IntervalForFirstSetOfRetries=3",
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/NumberOfSecondRetries=192",
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/IntervalForSecondSetOfRetries=15",
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/NumberOfRemainingScheduledRetries=0",
		"./Vendor/MSFT/DMClient/Provider/my%2Fserver/Poll/IntervalForRemainingScheduledRetries=480",
	}
	g := s.Command("my/server", "d")
	if !g.Atomic || len(g.Commands) != len(want) {
		t.Fatalf("command %+v", g)
	}
	for i, c := range g.Commands {
		o := c.(*syncml.Op)
		if got := o.Items[0].Target.URI + "=" + string(o.Items[0].Data); got != want[i] || o.Verb != syncml.Replace || o.Items[0].Meta.Format != "int" {
			t.Errorf("%s, want %s", got, want[i])
		}
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var back Schedule
	if err := json.Unmarshal(text, &back); err != nil || back != Default() {
		t.Errorf("%s came back as %+v, %v", text, back, err)
	}
	if err := json.Unmarshal([]byte(`{"every":"1h","jitter":"10m"}`), &back); err != nil || back.Every != time.Hour || back.Tries != 192 {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []string{
		`{"every":"8"}`, `{"every":"10s"}`, `{"every":"1000h"}`, `{"first":"15m"}`, `{"tries":-1}`, `{"tries":100000}`, `{"jitter":"5h"}`, `{"jitter":"-1s"}`, `[]`,
	} {
		if err := json.Unmarshal([]byte(bad), &back); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
