package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxConns of all, and of one source (an IPv6 /64). When there are so many the
	// oldest that has shown no certificate gives way, so that strangers who begin
	// handshakes keep no manager out.
	maxConns       = 256
	maxSourceConns = 16
	// headerTimeout is for the handshake, too.
	headerTimeout = 10 * time.Second
	idleTimeout   = 3 * time.Minute
)

// TLS lets in managers of the installation whose certificates aren't revoked by
// what was pushed, and nobody else.
func (a *Agent) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.certificate.Load(), nil
		},
		ClientAuth: tls.RequireAnyClientCert,
		// With a ticket nobody would look at the certificate again.
		SessionTicketsDisabled: true,
		VerifyConnection:       a.trusted,
	}
}

// trusted says whether a connection is from a manager whose certificate is good
// now. Connections last long, so it is asked again with each request.
func (a *Agent) trusted(s tls.ConnectionState) error {
	i := a.config.Identity
	path, err := verifyChain(s.PeerCertificates, i.Roots, x509.ExtKeyUsageClientAuth, i.Manager)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrManager, err)
	}
	for n, c := range path[:len(path)-1] {
		if reason, revoked := a.Revoked(sha256.Sum256(path[n+1].RawSubjectPublicKeyInfo), c.SerialNumber.Bytes()); revoked {
			return fmt.Errorf("%w: the certificate of %q is revoked, reason %d", ErrManager, c.Subject, reason)
		}
	}
	return nil
}

// Serve managers on a listener of TCP until ctx ends, then closes it. What is
// being taken in then is taken or refused as a whole.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error { return a.serve(ctx, newBounded(l)) }

func (a *Agent) serve(ctx context.Context, l *boundedListener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler: a.Handler(), TLSConfig: a.TLS(), Protocols: protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 32, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		ErrorLog: slog.NewLogLogger(a.config.Log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			// HTTP/2 begins behind the handshake.
			if t, ok := c.(*tls.Conn); ok && state == http.StateActive {
				t.NetConn().(*boundedConn).shown()
			}
		},
		// Streams of events end with it.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(down) != nil {
			_ = server.Close()
		}
	})
	err := server.ServeTLS(l, "", "")
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// boundedListener closes connections that are too many.
type boundedListener struct {
	net.Listener
	mu      sync.Mutex
	all     int
	sources map[netip.Prefix]int
	// strangers have shown no certificate yet, in the order in which they came.
	strangers []*boundedConn
}

func newBounded(l net.Listener) *boundedListener {
	return &boundedListener{Listener: l, sources: map[netip.Prefix]int{}}
}

// Accept the next connection that is within the bounds.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		b := &boundedConn{Conn: c, listener: l, source: sourceOf(c.RemoteAddr())}
		ok, oldest := l.enter(b)
		if oldest != nil {
			_ = oldest.Close()
		}
		if ok {
			return b, nil
		}
		_ = c.Close()
	}
}

// enter unless there are too many. If oldest isn't nil it is to be closed for that.
func (l *boundedListener) enter(c *boundedConn) (ok bool, oldest *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources[c.source] == maxSourceConns {
		return false, nil
	}
	if l.all == maxConns {
		if len(l.strangers) == 0 {
			return false, nil
		}
		oldest = l.strangers[0]
		l.remove(oldest)
	}
	l.all++
	l.sources[c.source]++
	l.strangers = append(l.strangers, c)
	return true, oldest
}

// remove a connection, once. The mutex is held.
func (l *boundedListener) remove(c *boundedConn) {
	if c.left {
		return
	}
	c.left = true
	l.know(c)
	l.all--
	if l.sources[c.source]--; l.sources[c.source] == 0 {
		delete(l.sources, c.source)
	}
}

// know a connection: it isn't a stranger's. The mutex is held.
func (l *boundedListener) know(c *boundedConn) {
	if n := slices.Index(l.strangers, c); n >= 0 {
		l.strangers = slices.Delete(l.strangers, n, n+1)
	}
}

func sourceOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

type boundedConn struct {
	net.Conn
	listener *boundedListener
	source   netip.Prefix
	left     bool // under the listener's mutex
}

// shown a certificate.
func (c *boundedConn) shown() {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.know(c)
}

// Close makes room.
func (c *boundedConn) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
