package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/enrollment/discovery"
	"github.com/roamgate/roamgate/enrollment/join"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// Options of Join.
type Options struct {
	// Code that the user was given. The caller erases it.
	Code otp.Code
	// Email address of the user, whose domain leads to the server. It isn't
	// sent.
	Email string
	// Server to enroll with, HOST, HOST:PORT or https://HOST:PORT, in place of
	// Email.
	Server string
	// Key of the device; nil makes one of ECDSAP256.
	Key crypto.Signer
	// Pending of a former try, in place of Key; its answer may have got lost.
	Pending *Pending
	// Save is called before the code can be used up, so that a device that
	// loses power then can go on with Pending. It may be nil.
	Save func(Pending) error
	// Dial a server; nil is the system's way.
	Dial Dial
	// Say what goes on, a line at a time; may be nil.
	Say func(string)
}

// Pending is what a device needs, besides the code, to get the certificate of
// an enrollment that broke off.
type Pending struct {
	Key   crypto.Signer
	Trust join.Trust
}

// Result of an enrollment. All of it is genuine: the code says so.
type Result struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	// Chain from the issuing CA to the root, both included.
	Chain []*x509.Certificate
	Root  *x509.Certificate
	// Instance by name and object identifier, and the Server of it.
	Instance, InstanceOID, Server string
	RenewFrom                     time.Time
	// Configuration is a JSON document.
	Configuration []byte
	// Notes for people, a sentence each.
	Notes []string
}

const (
	defaultPort = "443"
	// tries of what may help when it is done again.
	tries = 4
)

// Variables for tests: versions that this client offers, and the pause before
// the second try, doubled before each further one.
var (
	versions   = join.Versions
	firstPause = time.Second
)

// enrollment under way.
type enrollment struct {
	Options
	// key of the request; erased at the end.
	key     []byte
	trusted *join.Trust
}

// Join enrolls a device. Its errors are those of this package, that of ctx, or
// those of Save.
func Join(ctx context.Context, o Options) (*Result, error) {
	e := &enrollment{Options: o}
	if e.Say == nil {
		e.Say = func(string) {}
	}
	if e.Dial == nil {
		e.Dial = (&net.Dialer{}).DialContext
	}
	switch {
	case o.Pending != nil:
		e.Key, e.trusted = o.Pending.Key, &o.Pending.Trust
	case o.Key == nil:
		e.Say("making a key")
		var err error
		if e.Key, err = GenerateKey(ECDSAP256); err != nil {
			return nil, err
		}
	}
	e.key = o.Code.Password.Key(o.Code.ID)
	defer clear(e.key)

	servers, err := e.servers(ctx)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, server := range servers {
		r, err := e.enroll(ctx, server)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if !errors.Is(err, ErrUnreachable) {
			return nil, fmt.Errorf("%s: %w", server, err)
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// Address is HOST:PORT of a server as people write it.
func Address(server string) (string, error) {
	host := server
	if strings.Contains(server, "://") {
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return "", fmt.Errorf("server %q, want HOST, HOST:PORT or https://HOST:PORT", server)
		}
		host = u.Host
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), defaultPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	_, notAddress := netip.ParseAddr(name)
	if err != nil || number == 0 || name == "" || len(name) > 253 || strings.ContainsAny(name, "/ @[]?#\r\n\t") ||
		notAddress != nil && strings.Contains(name, ":") {
		return "", fmt.Errorf("server %q, want HOST, HOST:PORT or https://HOST:PORT", server)
	}
	return net.JoinHostPort(name, port), nil
}

// servers to enroll with: those named, or found.
func (e *enrollment) servers(ctx context.Context) ([]string, error) {
	switch {
	case e.Server != "":
		address, err := Address(e.Server)
		return []string{address}, err
	case e.trusted != nil:
		address, err := Address(e.trusted.Server)
		return []string{address}, err
	}
	names, err := discovery.Names(e.Email)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, name := range names {
		e.Say("asking " + name)
		found, err := e.discover(ctx, net.JoinHostPort(name, defaultPort))
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		// Somebody else's server may stand under one of the names.
		if !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrProtocol) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		failures = append(failures, fmt.Errorf("%s: %w", name, err))
	}
	return nil, errors.Join(failures...)
}

// discover asks a published server who has the request.
func (e *enrollment) discover(ctx context.Context, server string) ([]string, error) {
	var found []string
	err := e.retry(ctx, func() error {
		c, err := connect(ctx, e.Dial, server)
		if err != nil {
			return transportError{err}
		}
		defer c.close()
		q := join.Inquiry{Binding: c.binding, DiscoverRequest: join.DiscoverRequest{Hello: e.hello()}}
		q.Sign(e.key)
		var answer join.DiscoverResponse
		if err := c.exchange(ctx, join.DiscoverPath, q.DiscoverRequest, &answer); err != nil {
			return err
		}
		found = nil
		for _, s := range answer.Servers {
			address, err := Address(s.Name)
			if err != nil || !q.Verify(e.key, s) {
				continue // a name that somebody put in: it isn't dialled
			}
			if !slices.Contains(found, address) {
				found = append(found, address)
			}
		}
		if len(found) == 0 {
			return ErrUnproven
		}
		return nil
	})
	return found, err
}

func (e *enrollment) hello() join.Hello {
	h := join.Hello{Versions: versions, Request: e.Code.ID.String(), Nonce: make([]byte, join.NonceSize)}
	rand.Read(h.Nonce)
	return h
}

// retry what fails for reasons of transport, with pauses.
func (e *enrollment) retry(ctx context.Context, f func() error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := f()
		if _, again := errors.AsType[transportError](err); !again {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if try == tries {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		e.Say(fmt.Sprintf("%v; trying again in %s", err, pause))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// enroll with one server.
func (e *enrollment) enroll(ctx context.Context, server string) (r *Result, err error) {
	err = e.retry(ctx, func() error {
		r, err = e.try(ctx, server)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// try it once, on one connection.
func (e *enrollment) try(ctx context.Context, server string) (*Result, error) {
	e.Say("connecting to " + server)
	c, err := connect(ctx, e.Dial, server)
	if err != nil {
		return nil, transportError{err}
	}
	defer c.close()

	hello := e.hello()
	var trust join.TrustResponse
	if err := c.exchange(ctx, join.TrustPath, join.TrustRequest{Hello: hello}, &trust); err != nil {
		return nil, err
	}
	if !slices.Contains(versions, trust.Version) {
		return nil, fmt.Errorf("%w: it chose version %d, of %v", ErrProtocol, trust.Version, versions)
	}
	talk := join.Begin(c.binding, &hello, trust.Version, trust.Nonce, &trust.Trust)
	if !talk.VerifyTrust(e.key, trust.MAC) && !e.known(&trust.Trust) {
		return nil, ErrUnproven
	}
	root, err := parseRoot(&trust.Trust)
	if err != nil {
		return nil, err
	}
	if e.trusted == nil {
		e.Say(fmt.Sprintf("the server is that of %s: it knows the code", printable(trust.Instance)))
		if e.Save != nil {
			if err := e.Save(Pending{Key: e.Key, Trust: trust.Trust}); err != nil {
				return nil, err
			}
		}
		e.trusted = &trust.Trust
	}
	return e.certify(ctx, c, talk, &hello, &trust.Trust, root)
}

// known: the server says of itself what one said that was verified. After a
// lost answer the server has no key any more with which it could show it; MAC 3
// will.
func (e *enrollment) known(t *join.Trust) bool {
	return e.trusted != nil && bytes.Equal(t.Root, e.trusted.Root) && t.InstanceOID == e.trusted.InstanceOID
}

// certify is the second half, on the same connection.
func (e *enrollment) certify(ctx context.Context, c *connection, talk *join.Conversation, hello *join.Hello, trust *join.Trust, root *x509.Certificate) (*Result, error) {
	csr, err := certificateRequest(e.Key)
	if err != nil {
		return nil, err
	}
	hash, err := otp.HashPublicKey(e.Key.Public())
	if err != nil {
		return nil, err
	}
	bound := otp.Bind(e.key, hash)
	defer clear(bound)
	talk.Request(csr)
	request := join.CertificateRequest{Hello: *hello, CSR: csr, MAC: talk.RequestMAC(bound)}
	e.Say("asking for the certificate")
	var answer join.CertificateResponse
	if err := c.exchange(ctx, join.CertificatePath, request, &answer); err != nil {
		return nil, err
	}
	talk.Answer(&answer)
	if !talk.VerifyAnswer(bound, answer.MAC) {
		return nil, fmt.Errorf("%w: its MAC is wrong", ErrTampered)
	}
	leaf, chain, err := accept(&answer, root, trust.InstanceOID, e.Key)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Key: e.Key, Certificate: leaf, Chain: chain, Root: root,
		Instance: trust.Instance, InstanceOID: trust.InstanceOID, Server: trust.Server,
		RenewFrom: answer.Renew(), Configuration: answer.Configuration,
	}
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		r.Notes = append(r.Notes, fmt.Sprintf("this device's clock says %s, the certificate holds from %s to %s: set the clock",
			now.UTC().Format(time.RFC3339), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
	return r, nil
}
