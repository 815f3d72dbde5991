package lease

import (
	"os"

	"golang.org/x/sys/unix"
)

// journalFile is synced by fdatasync: blocks and length are there before. Why not
// by kernel AIO is in bench/README.md, "Handshakes".
type journalFile struct{ *os.File }

func (f journalFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }
