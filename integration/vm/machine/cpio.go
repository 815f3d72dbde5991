package machine

import (
	"fmt"
	"io"
	"io/fs"
)

// archive writes an initramfs: cpio in its "newc" form, see the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. The kernel reads
// several after each other.
type archive struct {
	w      io.Writer
	number int
	err    error
}

// Types of entries, from stat(2).
const (
	cpioDir     = 0o040000
	cpioFile    = 0o100000
	cpioSymlink = 0o120000
)

// add writes one entry; path has no leading slash, and folders come before
// what lies in them. A symlink's content is its target.
func (a *archive) add(path string, kind uint32, mode fs.FileMode, content []byte) {
	a.number++
	links := 1
	if kind == cpioDir {
		links = 2
	}
	a.entry(path, a.number, kind|uint32(mode.Perm()), links, content)
}

func (a *archive) entry(path string, number int, mode uint32, links int, content []byte) {
	// Magic, inode, mode, uid, gid, links, mtime, size, device, device of a
	// device file, length of the name with its zero, checksum.
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(path)+1, 0, path), 110+len(path)+1)
	a.write(content, len(content))
}

// write pads to four octets: the header is 110 long, and each part begins at a
// multiple of four.
func (a *archive) write(b []byte, length int) {
	if a.err != nil {
		return
	}
	if _, a.err = a.w.Write(b); a.err == nil {
		_, a.err = a.w.Write(make([]byte, -length&3))
	}
}

// close writes the end and returns the first error there was.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 1, nil)
	return a.err
}
