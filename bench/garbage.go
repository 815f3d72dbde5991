package main

import (
	"math"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// garbagePercent of what lives may gather, as long as the process takes less than
// half of the machine's memory: a generator's processor time is what a gateway is
// measured by, and its memory is nobody's.
const garbagePercent = 400

// letGarbageGather unless somebody has set GOGC.
func letGarbageGather() {
	if _, ok := os.LookupEnv("GOGC"); ok {
		return
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // GOMEMLIMIT isn't set either
		debug.SetMemoryLimit(int64(uint64(info.Totalram) * uint64(info.Unit) / 2))
	}
	debug.SetGCPercent(garbagePercent)
}
