// Package schedule says when devices come by themselves: soon after enrollment,
// then often until they were there once, then seldom and spread. It is pure.
//
// A device is told by the Poll nodes of the DMClient configuration service
// provider, in minutes; Next is the same for whoever has to wait for it, or to
// behave like it.
package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Schedule of a group of devices. Its zero value is not valid, see Default.
type Schedule struct {
	// First visit, so long after enrollment.
	First time.Duration
	// Retry: until the first visit worked the device tries again at so long after
	// enrollment, and that again after each try, Tries times.
	Retry time.Duration
	Tries int
	// Every is the time between visits from then on, for ever.
	Every time.Duration
	// Jitter moves each visit by up to so much, earlier or later.
	Jitter time.Duration
}

// Default: after 3 minutes; from minute 15 on 192 times, which are 48 hours;
// then each 8 hours, give or take 30 minutes.
func Default() Schedule {
	return Schedule{First: 3 * time.Minute, Retry: 15 * time.Minute, Tries: 192, Every: 8 * time.Hour, Jitter: 30 * time.Minute}
}

// ErrInvalid schedule; the text says why.
var ErrInvalid = errors.New("invalid schedule")

// Bounds: devices take minutes.
const (
	shortest = time.Minute
	longest  = 30 * 24 * time.Hour
	mostTry  = 10_000
)

// Validate reports what devices couldn't keep to.
func (s Schedule) Validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"first", s.First}, {"retry", s.Retry}, {"every", s.Every}} {
		if f.value < shortest || f.value > longest {
			return fmt.Errorf("%w: %s is %v, must be from %v to %v", ErrInvalid, f.name, f.value, shortest, longest)
		}
	}
	switch {
	case s.Retry <= s.First:
		return fmt.Errorf("%w: retry (%v) must be after first (%v)", ErrInvalid, s.Retry, s.First)
	case s.Tries < 0 || s.Tries > mostTry:
		return fmt.Errorf("%w: tries is %d, must be from 0 to %d", ErrInvalid, s.Tries, mostTry)
	case s.Jitter < 0 || s.Jitter > s.Every/2:
		return fmt.Errorf("%w: jitter is %v, must be from 0 to half of every (%v)", ErrInvalid, s.Jitter, s.Every/2)
	}
	return nil
}

// Next visit of a device that enrolled at a time, came last at another one (zero:
// never) and has tried so often since, in vain. The same arguments always give
// the same.
func (s Schedule) Next(device string, enrolled, last time.Time, tries int) time.Time {
	switch {
	case !last.IsZero():
		return last.Add(time.Duration(tries+1) * s.Every).Add(s.jitter(device, last.UnixMicro()+int64(tries)))
	case tries == 0:
		return enrolled.Add(s.First)
	case tries <= s.Tries:
		return enrolled.Add(time.Duration(tries) * s.Retry)
	}
	end := enrolled.Add(time.Duration(s.Tries) * s.Retry)
	return end.Add(time.Duration(tries-s.Tries) * s.Every).Add(s.jitter(device, int64(tries)))
}

// jitter from -s.Jitter to s.Jitter, by chance that device and n decide.
func (s Schedule) jitter(device string, n int64) time.Duration {
	if s.Jitter == 0 {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%d", device, n)
	// FNV's high bits depend little on the last octets: mix them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xFF51AFD7ED558CCD
	x ^= x >> 33
	return time.Duration(x%uint64(2*s.Jitter+1)) - s.Jitter
}

// Late is when a device that came last at a time is overdue: three visits
// missed.
func (s Schedule) Late(last time.Time) time.Time { return last.Add(3*s.Every + s.Jitter) }

// pollRoot of the DMClient configuration service provider; the provider is the
// name by which the device knows its server.
const pollRoot = "./Vendor/MSFT/DMClient/Provider/"

// Command tells a device its schedule: all nodes or none. Its own part of the
// jitter goes into the interval between visits, since the device's clock is
// exact.
func (s Schedule) Command(provider, device string) *syncml.Group {
	every := s.Every + s.jitter(device, 0)
	g := &syncml.Group{Atomic: true}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"NumberOfFirstRetries", 1}, {"IntervalForFirstSetOfRetries", minutes(s.First)},
		{"NumberOfSecondRetries", s.Tries}, {"IntervalForSecondSetOfRetries", minutes(s.Retry)},
		// None, with an interval, are for ever.
		{"NumberOfRemainingScheduledRetries", 0}, {"IntervalForRemainingScheduledRetries", minutes(every)},
	} {
		g.Commands = append(g.Commands, &syncml.Op{Verb: syncml.Replace, Items: []syncml.Item{{
			Target: syncml.Location{URI: pollRoot + EscapeName(provider) + "/Poll/" + n.name},
			Meta:   syncml.Meta{Format: "int"}, Data: []byte(strconv.Itoa(n.value)), HasData: true,
		}}})
	}
	return g
}

// EscapeName for a segment of a URI (OMA-TS-DM_TND-V1_2_1 section 4.3): a slash,
// and what escapes it.
func EscapeName(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2F").Replace(name)
}

func minutes(d time.Duration) int { return max(1, int((d+time.Minute/2)/time.Minute)) }

// wire is a schedule in JSON, with durations as people write them.
type wire struct {
	First  string `json:"first"`
	Retry  string `json:"retry"`
	Tries  int    `json:"tries"`
	Every  string `json:"every"`
	Jitter string `json:"jitter"`
}

// MarshalJSON implements json.Marshaler.
func (s Schedule) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{s.First.String(), s.Retry.String(), s.Tries, s.Every.String(), s.Jitter.String()})
}

// UnmarshalJSON implements json.Unmarshaler. What is absent is the default.
func (s *Schedule) UnmarshalJSON(text []byte) error {
	d := Default()
	w := wire{Tries: d.Tries}
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	d.Tries = w.Tries
	for _, f := range []struct {
		text  string
		field *time.Duration
	}{{w.First, &d.First}, {w.Retry, &d.Retry}, {w.Every, &d.Every}, {w.Jitter, &d.Jitter}} {
		if f.text == "" {
			continue
		}
		v, err := time.ParseDuration(f.text)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		*f.field = v
	}
	*s = d
	return d.Validate()
}
