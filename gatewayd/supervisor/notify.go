package supervisor

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// listener is the socket by which one process of a child says how it is
// (sd_notify(3)). Each process has its own, so that what a former one said is not
// taken for its successor's.
type listener struct {
	conn *net.UnixConn
	dir  string
}

// listen makes a socket in a folder that only owner (a user ID; -1: the own) and
// root can enter.
func listen(owner int) (*listener, error) {
	dir, err := os.MkdirTemp("", "gatewayd-notify-")
	if err != nil {
		return nil, err
	}
	l := &listener{dir: dir}
	l.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.path(), Net: "unixgram"})
	if err == nil && owner >= 0 {
		if err = os.Chown(l.path(), owner, -1); err == nil {
			err = os.Chown(dir, owner, -1)
		}
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("socket for the state of a child: %w", err)
	}
	return l, nil
}

func (l *listener) path() string { return filepath.Join(l.dir, "notify") }

func (l *listener) close() {
	if l.conn != nil {
		l.conn.Close()
	}
	os.RemoveAll(l.dir)
}

// states calls each with what is said, until the socket is closed.
func (l *listener) states(each func(key, value string)) {
	b := make([]byte, 4096)
	for {
		n, err := l.conn.Read(b)
		if err != nil {
			return
		}
		for line := range bytes.Lines(b[:n]) {
			if key, value, found := strings.Cut(strings.TrimSuffix(string(line), "\n"), "="); found {
				each(key, value)
			}
		}
	}
}
