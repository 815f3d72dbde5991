package main

import (
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

// usage of the gateway while something is measured.
type usage struct {
	pid    int
	began  time.Time
	time   time.Duration
	memory int64
}

// watch begins; without a process it does nothing.
func watch(pid int) (u usage, err error) {
	if pid == 0 {
		return u, nil
	}
	u = usage{pid: pid, began: time.Now()}
	if u.time, err = process.Time(pid); err == nil {
		u.memory, err = process.Resident(pid)
	}
	return u, err
}

// report what the gateway used since, for each of count.
func (u usage) report(r *report.Report, what string, count uint64) error {
	return u.reportAs(r, "gateway's", what, count)
}

// reportAs the same of another's process.
func (u usage) reportAs(r *report.Report, whose, what string, count uint64) error {
	if u.pid == 0 || count == 0 {
		return nil
	}
	now, err := watch(u.pid)
	if err != nil {
		return err
	}
	spent := now.time - u.time
	r.Add(whose+" processor time a "+what, float64(spent)/float64(time.Microsecond)/float64(count), "us")
	r.Add(whose+" processors in use", spent.Seconds()/now.began.Sub(u.began).Seconds(), "")
	r.Add(whose+" memory, growth a "+what, float64(now.memory-u.memory)/float64(count), "octets")
	return nil
}
