package lease

import (
	"os"

	"golang.org/x/sys/unix"
)

type journalFile struct{ *os.File }

func newJournalFile(f *os.File) disk { return journalFile{f} }

func (f journalFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }
