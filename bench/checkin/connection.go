package checkin

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

// connection is one TCP connection with TLS, which is made when the first
// message leaves and carries all that follow, as devices do it. It costs no
// goroutine, unlike that of an http.Transport. It is an http.RoundTripper for
// one request at a time.
type connection struct {
	dial func(ctx context.Context) (*tls.Conn, error)

	conn *tls.Conn
	r    *bufio.Reader
	// made: how long TCP and TLS took, all connections together; resumed: the
	// last one was by a ticket.
	made    time.Duration
	count   int
	resumed bool
}

// past is a deadline for who shall wait no longer.
var past = time.Unix(1, 0)

// RoundTrip implements http.RoundTripper. The body has to be read to its end
// before the next one.
func (c *connection) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if c.conn == nil {
		began := time.Now()
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		c.made += time.Since(began)
		c.count++
		c.conn, c.resumed = conn, conn.ConnectionState().DidResume
		c.r = bufio.NewReaderSize(conn, 4<<10)
	}
	deadline, _ := ctx.Deadline() // none is the zero time, which is none
	_ = c.conn.SetDeadline(deadline)
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	res, err := c.exchange(req)
	if err != nil {
		stop()
		c.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	res.Body = &body{ReadCloser: res.Body, c: c, stop: stop, last: res.Close}
	return res, nil
}

func (c *connection) exchange(req *http.Request) (*http.Response, error) {
	w := bufio.NewWriterSize(c.conn, 4<<10)
	if err := req.Write(w); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, req)
}

// close in order; the answer to that isn't waited for.
func (c *connection) close() {
	if c.conn == nil {
		return
	}
	_ = c.conn.Close()
	c.conn, c.r = nil, nil
}

// body of a response; with the last one the connection ends.
type body struct {
	io.ReadCloser
	c    *connection
	stop func() bool
	last bool
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.stop()
	if b.last || err != nil {
		b.c.close()
	}
	return err
}

// dialer of a device from its own address.
func (c *Config) dialer(from net.Addr, own *tls.Config) func(ctx context.Context) (*tls.Conn, error) {
	return func(ctx context.Context) (*tls.Conn, error) {
		raw, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", c.Address.String())
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, own)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return conn, nil
	}
}
