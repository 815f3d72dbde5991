package main

import (
	"context"
	"errors"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/control/ike"
)

// journey of a device on its way back in a storm.
type journey struct {
	*returner
	client  *device.Device
	since   time.Time
	without bool // a ticket
	// How the attempt went: it couldn't be made, or what the device says.
	err  error
	info device.Info
}

// stormOf all devices: one goroutine sends them off, and this one hears of those that
// are back. A goroutine for each of a hundred thousand would have a stack as deep as
// a handshake, for the collector to look through. It returns how long it took until
// the last was back; who isn't within a time counts as failed.
func stormOf(ctx context.Context, f *fleet, returners []*returner, within time.Duration, n *returns, result *load.Result) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	journeys := make([]journey, len(returners))
	came := make(chan *journey, len(journeys)) // each is in it once at most
	sent := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(sent)
		for i := range journeys {
			if ctx.Err() != nil {
				return
			}
			j := &journeys[i]
			j.returner, j.since = returners[i], time.Now()
			j.send(f, came)
		}
	}()
	for away := len(journeys); away > 0 && ctx.Err() == nil; {
		select {
		case j := <-came:
			err := j.back()
			if errors.Is(err, errSilence) {
				n.again.Add(1)
				j.client.Vanish()
				j.send(f, came)
				continue
			}
			away--
			j.end(n, result, err)
		case <-ctx.Done():
		}
	}
	took := time.Since(began)
	<-sent
	for i := range journeys {
		if j := &journeys[i]; j.client != nil {
			j.client.Vanish()
			j.end(n, result, ctx.Err())
		}
	}
	return took
}

// errSilence: a device gave up, because nobody answered it.
var errSilence = errors.New(string(ike.CloseTimeout))

// send it off, also once more.
func (j *journey) send(f *fleet, came chan<- *journey) {
	j.without = j.ticket == nil
	if j.client, j.err = j.returner.client(f); j.err == nil {
		j.err = j.client.Start(func(i device.Info) {
			j.info = i
			came <- j
		})
	}
	if j.err != nil {
		came <- j
	}
}

// back says how it went. A device that nobody answered keeps its ticket: if that was
// used up, the gateway says so.
func (j *journey) back() error {
	switch {
	case j.err != nil:
		return j.err
	case j.info.State == device.Up:
		return nil
	case j.info.Closed == nil:
		return device.ErrGone
	case j.info.Closed.Reason == ike.CloseTimeout, j.info.Closed.Reason == ike.CloseHalfOpenTimeout:
		return errSilence
	}
	return j.info.Closed
}

// end takes the next ticket and has the device vanish.
func (j *journey) end(n *returns, result *load.Result, err error) {
	j.forget()
	if j.client != nil {
		j.client.Vanish()
		j.ticket = j.client.Ticket()
		j.client = nil
	}
	if err == nil {
		n.count(j.without, j.info)
	}
	result.Perform(context.Background(), func(context.Context, uint64) error { return reasonOf(err) }, j.number, j.since)
}
