package agent

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
)

// TestBoundedListener: one source takes its share only, and who leaves makes
// room.
func TestBoundedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBounded(inner)
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var first net.Conn
	for n := range maxSourceConns {
		dial()
		if c := <-accepted; n == 0 {
			first = c
		} else {
			t.Cleanup(func() { c.Close() })
		}
	}
	over := dial()
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Errorf("one too many: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	_ = first.Close()
	dial()
	c := <-accepted
	t.Cleanup(func() { c.Close() })
	if l.all != maxSourceConns {
		t.Errorf("%d counted, %d are open", l.all, maxSourceConns)
	}
}

// TestManagersGetPastStrangers: where strangers from many networks hold all
// connections there is room for a manager, who stays when more of them come.
func TestManagersGetPastStrangers(t *testing.T) {
	p := newPipes()
	l := newBounded(p)
	come := func(n int) (*boundedConn, net.Conn) {
		t.Helper()
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		c := &boundedConn{Conn: ours, listener: l, source: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), 32)}
		ok, oldest := l.enter(c)
		if !ok {
			t.Fatalf("no room for connection %d", n)
		}
		if oldest != nil {
			_ = oldest.Close()
		}
		return c, theirs
	}
	first, _ := come(0)
	for n := 1; n < maxConns; n++ {
		come(n)
	}
	manager, theirs := come(maxConns)
	if !first.left || l.all != maxConns {
		t.Errorf("the first stranger left: %t; %d are counted", first.left, l.all)
	}
	manager.shown()
	for n := range 2 * maxConns {
		come(maxConns + 1 + n)
	}
	go func() { _, _ = manager.Write([]byte{1}) }()
	if n, err := theirs.Read(make([]byte, 1)); n != 1 || manager.left {
		t.Errorf("the manager is gone: %v", err)
	}
	if err := manager.Close(); err != nil || l.all != maxConns-1 || len(l.sources) != maxConns-1 || len(l.strangers) != maxConns-1 {
		t.Errorf("%v; %d counted of %d sources, %d strangers", err, l.all, len(l.sources), len(l.strangers))
	}
}

// TestManagerIsNoStranger: whoever has a manager's certificate counts as one, and
// whoever only connects doesn't.
func TestManagerIsNoStranger(t *testing.T) {
	i := install(t)
	a := open(t, new(gateway).config(filepath.Join(t.TempDir(), "file"), i.identity(t)))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBounded(inner)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, _ := ask(t, client(t, i.manager(t)), http.MethodGet, "https://"+inner.Addr().String()+gcm.PathState, "", nil); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all != 2 || len(l.strangers) != 1 || l.strangers[0].RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("%d connections, strangers: %v", l.all, l.strangers)
	}
}
