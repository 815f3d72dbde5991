package report

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Environment in which a figure came about.
type Environment struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	// Flags of the processor that decide about the speed of cryptography.
	Flags []string `json:"flags,omitempty"`
}

// decisive are the flags worth knowing.
var decisive = []string{"aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx2", "avx512f", "sha_ni", "pmull", "sha2"}

// ReadEnvironment of this machine. What can't be read stays empty.
func ReadEnvironment() Environment {
	e := Environment{CPU: "unknown processor", Processors: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return e
	}
	for line := range strings.Lines(string(info)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			e.CPU = strings.TrimSpace(value)
		case "flags", "Features":
			e.Flags = e.Flags[:0]
			have := strings.Fields(value)
			for _, f := range decisive {
				for _, h := range have {
					if f == h {
						e.Flags = append(e.Flags, f)
					}
				}
			}
		}
	}
	return e
}

// Usage is what the machine's processors and this process did until now.
type Usage struct {
	at           time.Time
	total, steal uint64 // jiffies of all processors
	own          time.Duration
}

// ReadUsage takes a reading.
func ReadUsage() Usage {
	u := Usage{at: time.Now()}
	if stat, err := os.ReadFile("/proc/stat"); err == nil {
		u.total, u.steal = parseStat(stat)
	}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u
}

// parseStat reads the line of all processors of /proc/stat: user, nice, system,
// idle, iowait, irq, softirq, steal; guest time is in user already.
func parseStat(stat []byte) (total, steal uint64) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, 0
		}
		total += n
		if i == 7 {
			steal = n
		}
	}
	return total, steal
}

// Since returns the shares, 0 to 1, of all processor time since an earlier
// reading that the host stole and that this process used.
func (u Usage) Since(before Usage) (steal, own float64) {
	if u.total > before.total {
		steal = float64(u.steal-before.steal) / float64(u.total-before.total)
	}
	if wall := u.at.Sub(before.at); wall > 0 {
		own = float64(u.own-before.own) / float64(wall) / float64(runtime.NumCPU())
	}
	return steal, own
}
