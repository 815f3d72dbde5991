package checkin

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/dmlink/schedule"
)

// Life of a fleet by a schedule, as if it had gone on for long: at the beginning
// each device is somewhere between two visits.
type Life struct {
	Schedule schedule.Schedule
	// For is how long it is watched, in real time. Speed is how much faster than
	// that the devices' clocks go.
	For   time.Duration
	Speed float64
	// Concurrency: how many devices may be there at once. One that is due then
	// waits, and its waiting counts.
	Concurrency int
	Seed        uint64
}

// visit that is due at a time of the devices' clock, since the beginning.
type visit struct {
	due    time.Duration
	device uint64
	// last visit that worked, and tries since in vain.
	last  time.Duration
	tries int
}

type visits []visit

func (v visits) Len() int           { return len(v) }
func (v visits) Less(i, j int) bool { return v[i].due < v[j].due }
func (v visits) Swap(i, j int)      { v[i], v[j] = v[j], v[i] }
func (v *visits) Push(x any)        { *v = append(*v, x.(visit)) }
func (v *visits) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}

// Run has session for each device that is due, until the time is over or ctx
// ends. Devices that were due and found no place in time are Late in the
// result.
func (l *Life) Run(ctx context.Context, devices uint64, session load.Operation, r *load.Result) time.Duration {
	began := time.Now()
	offering, stop := context.WithDeadline(ctx, began.Add(l.For))
	defer stop()
	waiting := l.begin(devices)
	places := make(chan struct{}, l.Concurrency)
	back := make(chan visit, l.Concurrency)
	var working sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for offering.Err() == nil {
		var due time.Time
		place := places
		if len(waiting) == 0 {
			place = nil
		} else if due = began.Add(time.Duration(float64(waiting[0].due) / l.Speed)); time.Until(due) > 0 {
			place = nil
			timer.Reset(time.Until(due))
		}
		select {
		case <-offering.Done():
		case <-timer.C:
		case v := <-back:
			heap.Push(&waiting, v)
		case place <- struct{}{}:
			v := heap.Pop(&waiting).(visit)
			working.Go(func() {
				ok := r.Perform(context.WithoutCancel(ctx), session, v.device, due)
				now := time.Duration(float64(time.Since(began)) * l.Speed)
				v = l.next(v, now, ok)
				back <- v
				<-places
			})
		}
	}
	offered := time.Since(began)
	for _, v := range waiting {
		if time.Duration(float64(v.due)/l.Speed) < offered {
			r.Late.Add(1)
		}
	}
	go func() { // who comes back isn't asked for any more
		for range back {
		}
	}()
	working.Wait()
	close(back)
	return offered
}

// epoch is any time: schedules want one.
var epoch = time.Unix(1e9, 0)

func (l *Life) begin(devices uint64) visits {
	random := rand.New(rand.NewPCG(l.Seed, 0))
	all := make(visits, devices)
	for n := range devices {
		all[n] = visit{device: n, due: time.Duration(random.Int64N(int64(l.Schedule.Every)))}
	}
	heap.Init(&all)
	return all
}

// next visit of a device that is gone now.
func (l *Life) next(v visit, now time.Duration, ok bool) visit {
	if v.tries++; ok {
		v.last, v.tries = now, 0
	}
	at := l.Schedule.Next(strconv.FormatUint(v.device, 10), epoch, epoch.Add(v.last), v.tries)
	v.due = max(at.Sub(epoch), now)
	return v
}
