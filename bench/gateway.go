package main

import (
	"os"
	"time"

	"github.com/roamgate/roamgate/bench/process"
	"github.com/roamgate/roamgate/bench/report"
)

// gatewayTime is the processor time of the gateway's process, 0 where it isn't
// known.
func gatewayTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	return process.Time(pid)
}

// usage of the gateway, and of this process, while something is measured.
type usage struct {
	pid    int
	began  time.Time
	own    time.Duration
	time   time.Duration
	memory int64
}

// watch begins; without a process of a gateway only this one is watched.
func watch(pid int) (u usage, err error) {
	u = usage{pid: pid, began: time.Now()}
	if u.own, err = process.Time(os.Getpid()); err != nil || pid == 0 {
		return u, err
	}
	if u.time, err = process.Time(pid); err == nil {
		u.memory, err = process.Resident(pid)
	}
	return u, err
}

// report what was used since, for each of count.
func (u usage) report(r *report.Report, what string, count uint64) error {
	return u.reportAs(r, "gateway's", what, count)
}

// reportAs the same of another's process.
func (u usage) reportAs(r *report.Report, whose, what string, count uint64) error {
	if count == 0 {
		return nil
	}
	now, err := watch(u.pid)
	if err != nil {
		return err
	}
	each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(count) }
	r.Add("generator's processor time a "+what, each(now.own-u.own), "us")
	if u.pid == 0 {
		return nil
	}
	spent := now.time - u.time
	r.Add(whose+" processor time a "+what, each(spent), "us")
	r.Add(whose+" processors in use", spent.Seconds()/now.began.Sub(u.began).Seconds(), "")
	r.Add(whose+" memory, growth a "+what, float64(now.memory-u.memory)/float64(count), "octets")
	return nil
}
