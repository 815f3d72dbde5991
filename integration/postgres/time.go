package postgres

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Time that the processors have spent on the server so far, user and system, all
// of its processes and those that have ended, to 10 ms for each.
func (p *Server) Time() time.Duration {
	p.t.Helper()
	data := filepath.Join(p.dir, "data")
	first := p.first()
	var ticks int64
	for _, pid := range p.processes(data) {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue // it has ended, and the first one counts it
		}
		// proc_pid_stat(5): after the name in brackets, which is field 2, utime is
		// field 14, and stime, cutime and cstime follow.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			p.t.Fatalf("/proc/%d/stat: %q", pid, text)
		}
		last := 13
		if pid == first {
			last = 15
		}
		for _, f := range fields[11:last] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			ticks += n
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ, 100 everywhere
	return time.Duration(ticks) * tick
}

// first process of the server, which starts the others.
func (p *Server) first() int {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	if err != nil {
		p.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// processes whose folder is data: those of the server.
func (p *Server) processes(data string) (pids []int) {
	p.t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range folders {
		if cwd, err := os.Readlink(f); err == nil && cwd == data {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
