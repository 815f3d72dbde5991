package checkin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

// Config of a Fleet.
type Config struct {
	// URL of the server, and where that is.
	URL     string
	Address netip.AddrPort
	// ServerName in its certificate, and who it is trusted by; nil means the
	// system's roots.
	ServerName string
	Roots      *x509.CertPool
	// Devices there are, and who each is. It is asked once a device. Without a
	// certificate the device shows none.
	Devices uint64
	Who     func(number uint64) (name string, certificate *tls.Certificate, err error)
	// From is the own address of a device; nil leaves it to the system.
	From func(number uint64) net.Addr
	// Full handshakes only: nobody keeps a ticket.
	Full bool
	// Scheme of authentication in the messages. With MD5 and HMAC the account is
	// the device's name, and the password that of all; Nonce is the first one, a
	// wrong one costs a message more once.
	Scheme          session.Scheme
	Password, Nonce []byte
	Syntax          syncml.Syntax
	// MaxMsgSize that the server is told, 0 for none.
	MaxMsgSize int
	// Timeout of a session.
	Timeout time.Duration
}

// Fleet of devices. Each has one session at a time.
type Fleet struct {
	cfg     Config
	devices []*device
	// idle devices, which nobody else has.
	idle chan uint64

	// What the sessions were, in total.
	Messages, Commands, Connections, Resumed atomic.Uint64
	// Connecting is the time that TCP and TLS took; Empty and Working are whole
	// sessions without and with commands, all of them from when they began, not
	// from when they were due.
	Connecting, Empty, Working *report.Histogram
}

// device is what is kept of one between its sessions.
type device struct {
	name        string
	certificate *tls.Certificate
	account     dm.Account
	sessions    int
	ticket      ticket
}

// ticket is a cache of one, used by one session at a time.
type ticket struct{ state *tls.ClientSessionState }

func (t *ticket) Get(string) (*tls.ClientSessionState, bool) {
	// It serves once (RFC 8446 appendix C.4).
	state := t.state
	t.state = nil
	return state, state != nil
}

func (t *ticket) Put(_ string, state *tls.ClientSessionState) { t.state = state }

// New fleet, all of whose devices are idle.
func New(cfg Config) *Fleet {
	f := &Fleet{
		cfg: cfg, devices: make([]*device, cfg.Devices), idle: make(chan uint64, cfg.Devices),
		Connecting: report.NewHistogram(), Empty: report.NewHistogram(), Working: report.NewHistogram(),
	}
	for n := range cfg.Devices {
		f.idle <- n
	}
	return f
}

// Devices there are.
func (f *Fleet) Devices() uint64 { return f.cfg.Devices }

// Forget what was counted.
func (f *Fleet) Forget() {
	for _, n := range []*atomic.Uint64{&f.Messages, &f.Commands, &f.Connections, &f.Resumed} {
		n.Store(0)
	}
	for _, h := range []*report.Histogram{f.Connecting, f.Empty, f.Working} {
		h.Reset()
	}
}

// Next device, the one that is idle for the longest, has a session.
func (f *Fleet) Next(ctx context.Context) error {
	select {
	case n := <-f.idle:
		defer func() { f.idle <- n }()
		return f.Session(ctx, n)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prepare a device that nobody else has: it learns who it is.
func (f *Fleet) Prepare(number uint64) error {
	_, err := f.device(number)
	return err
}

func (f *Fleet) device(number uint64) (*device, error) {
	if d := f.devices[number]; d != nil {
		return d, nil
	}
	name, certificate, err := f.cfg.Who(number)
	if err != nil {
		return nil, err
	}
	d := &device{name: name, certificate: certificate}
	d.account = dm.Account{Scheme: f.cfg.Scheme, Name: name, Password: f.cfg.Password, Nonce: f.cfg.Nonce}
	// Sessions of an earlier run may linger at the server.
	d.sessions = 1 + int(time.Now().Unix()%10_000)
	f.devices[number] = d
	return d, nil
}

// Session of a device that nobody else has, from its connection to its end.
func (f *Fleet) Session(ctx context.Context, number uint64) error {
	d, err := f.device(number)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	own := &tls.Config{ServerName: f.cfg.ServerName, RootCAs: f.cfg.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if d.certificate != nil {
		own.Certificates = []tls.Certificate{*d.certificate}
	}
	if !f.cfg.Full {
		own.ClientSessionCache = &d.ticket
	}
	var from net.Addr
	if f.cfg.From != nil {
		from = f.cfg.From(number)
	}
	began := time.Now()
	conn := &connection{dial: f.cfg.dialer(from, own)}
	defer conn.close()
	d.sessions++
	summary, err := dm.New(dm.Config{
		URL: f.cfg.URL, Client: &http.Client{Transport: conn, Jar: jar}, Device: d.name, Server: "bench",
		Syntax: f.cfg.Syntax, Tree: phone(d.name), Account: &d.account, FirstSession: d.sessions, MaxMsgSize: f.cfg.MaxMsgSize,
	}).Session(ctx)
	f.Messages.Add(uint64(summary.Messages))
	f.Commands.Add(uint64(summary.Commands))
	f.Connections.Add(uint64(conn.count))
	if conn.count > 0 {
		f.Connecting.Record(conn.made)
	}
	if conn.resumed {
		f.Resumed.Add(1)
	}
	if err != nil {
		return reason(err)
	}
	if summary.Aborted {
		return errAborted
	}
	took := time.Since(began)
	if summary.Commands == 0 {
		f.Empty.Record(took)
	} else {
		f.Working.Record(took)
	}
	return nil
}

// born is when the values in all trees came about.
var born = time.Unix(1e9, 0)

// Root of the nodes that a device of the bench has for whoever wants to set
// some: any name below it may be replaced without an Add before.
const Root = "./Vendor/Bench"

// values below Root.
const values = 16

// phone has what package 1 tells, and some nodes for commands.
func phone(name string) *tree.Tree {
	t := tree.New(tree.Limits{Nodes: 10_000, ValueOctets: 1 << 20})
	put := func(uri, value string) { t.Put(uri, tree.Node{Value: tree.Value{Data: []byte(value)}}, born) }
	put("./DevInfo/DevId", name)
	put("./DevInfo/Man", "Roamgate")
	put("./DevInfo/Mod", "Simulated")
	put("./DevInfo/DmV", "1.2")
	put("./DevInfo/Lang", "en")
	for i := range values {
		put(Root+"/"+strconv.Itoa(i), "old")
	}
	return t
}

var errAborted = errors.New("the server aborted the session")

// reason of a failure, one of few.
func reason(err error) error {
	var op *net.OpError
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, context.Canceled):
		return errors.New("abandoned at the end")
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &op):
		return op.Err
	}
	for _, known := range []error{dm.ErrAuthentication, dm.ErrServer} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}
