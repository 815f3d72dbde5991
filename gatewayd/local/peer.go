package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access says who may use the socket beside root.
type Access struct {
	// UID that gatewayd runs as.
	UID uint32
	// Group and its GID; the empty name means none.
	Group string
	GID   uint32
}

// peer is who connected.
type peer struct {
	uid, gid uint32
	groups   []uint32
	pid      int32
	err      error
}

// check is nil if the peer may come in.
func (a Access) check(p peer) error {
	switch {
	case p.err != nil:
		return fmt.Errorf("%w: who is calling could not be found out: %w", ErrForbidden, p.err)
	case p.uid == 0 || p.uid == a.UID:
		return nil
	case a.Group != "" && (p.gid == a.GID || slices.Contains(p.groups, a.GID)):
		return nil
	case a.Group == "":
		return fmt.Errorf("%w: user %d is neither root nor the gateway's own (%d); admin.group in the configuration lets a group in", ErrForbidden, p.uid, a.UID)
	}
	return fmt.Errorf("%w: user %d is neither root nor the gateway's own (%d), nor in the group %s", ErrForbidden, p.uid, a.UID, a.Group)
}

type peerKey struct{}

// withPeer notes who connected: it stays true for the connection, whatever the
// process becomes.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, credentials(c))
}

func peerOf(r *http.Request) peer {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		p.err = errors.New("not a unix socket")
	}
	return p
}

// User of this host who sends a request, by name, or by number where the system
// has no name; false if it didn't come over a local socket.
func User(r *http.Request) (name string, ok bool) {
	p := peerOf(r)
	if p.err != nil {
		return "", false
	}
	id := strconv.FormatUint(uint64(p.uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username, true
	}
	return id, true
}

func credentials(c net.Conn) (p peer) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: errors.New("not a unix socket")}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); p.err == nil {
			p.uid, p.gid, p.pid = cred.Uid, cred.Gid, cred.Pid
			p.groups, p.err = peerGroups(fd)
		}
	})
	if err != nil {
		p.err = err
	}
	return p
}

// peerGroups are the supplementary groups (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd uintptr) ([]uint32, error) {
	// NGROUPS_MAX is 65,536; nobody who administers a gateway is in more than
	// these.
	groups := make([]uint32, 1024)
	size := uint32(len(groups)) * uint32(unsafe.Sizeof(groups[0]))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("getsockopt SO_PEERGROUPS", errno)
	}
	return groups[:size/uint32(unsafe.Sizeof(groups[0]))], nil
}
