package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/batch"
	"github.com/roamgate/roamgate/bench/capture"
	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/bench/target"
	"github.com/roamgate/roamgate/control/ikewire"
)

// fleetFlags say which gateway is loaded, and by whom.
type fleetFlags struct {
	gateway   string
	port      uint16
	nattPort  uint16
	gatewayID string
	roots     string
	vouched   bool

	certificate, key string
	ca, caKey        string
	devices          uint64
	profile          string
	ike, esp         string
	local            []string
	sockets          int
	gatewayPID       int
	capture          captureFlags
}

func (f *fleetFlags) flags(c *cobra.Command) {
	l := c.Flags()
	l.StringVar(&f.gateway, "gateway", "", "IP `address` of the gateway (required)")
	l.Uint16Var(&f.port, "port", 500, "its UDP port of IKE")
	l.Uint16Var(&f.nattPort, "natt-port", 4500, "its UDP port of IKE and ESP in UDP")
	l.StringVar(&f.gatewayID, "gateway-id", "", "`name` in its certificate (required)")
	l.StringVar(&f.roots, "root", "", "PEM `file` of the CAs that it is trusted by (required)")
	l.BoolVar(&f.vouched, "i-own-this-target", false, "the gateway may be loaded although it is on a network")
	l.StringVar(&f.certificate, "certificate", "", "PEM `file`: all devices are this one; or:")
	l.StringVar(&f.key, "key", "", "PEM `file`: its key")
	l.StringVar(&f.ca, "ca", "", "PEM `file` of a laboratory's CA, which issues to as many devices as needed")
	l.StringVar(&f.caKey, "ca-key", "", "PEM `file`: its key")
	l.Uint64Var(&f.devices, "devices", 1000, "how many different devices there are")
	l.StringVar(&f.profile, "profile", device.StrongSwan.Name, "what `client` they speak as: "+profileNames())
	l.StringVar(&f.ike, "ike", "", "`proposal` for IKE instead of the client's, such as aes128gcm16-prfsha256-curve25519")
	l.StringVar(&f.esp, "esp", "", "`proposal` for ESP, such as aes128gcm16")
	l.StringSliceVar(&f.local, "local", nil, "IP `address` to come from; of several, devices take turns")
	l.IntVar(&f.sockets, "sockets", 0, "how many sockets the devices share, where each can't have its own; 0: each has its own")
	l.IntVar(&f.gatewayPID, "gateway-pid", 0, "its `process` on this machine, to report what it uses")
	f.capture.flags(c)
	for _, name := range []string{"gateway", "gateway-id", "root"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}

// fleet makes the devices.
type fleet struct {
	gateway, natt netip.AddrPort
	gatewayID     *ikewire.ID
	roots         *x509.CertPool
	anchors       [][20]byte
	verify        device.Verify
	source        identity.Source
	profile       *device.Profile
	local         []netip.Addr
	turn          atomic.Uint64 // of local
	sockets       int           // that devices share; 0: each has its own
	pool          *device.Pool  // of them, nil before the first
	opening       sync.Mutex
	devices       uint64
	gatewayPID    int
	pairs         keyPairs // of handshakes to come, see agree
	captureFlags  captureFlags
	capture       *capture.Capture // nil where nothing is captured, see captured
}

// build checks the flags, the target before all.
func (f *fleetFlags) build() (*fleet, error) {
	addr, err := netip.ParseAddr(f.gateway)
	if err != nil {
		return nil, fmt.Errorf("%w: --gateway: %w", errUsage, err)
	}
	if err := target.Check(addr, f.vouched); err != nil {
		return nil, err
	}
	out := &fleet{
		gateway: netip.AddrPortFrom(addr, f.port), natt: netip.AddrPortFrom(addr, f.nattPort),
		gatewayID: &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(f.gatewayID)},
		devices:   f.devices, sockets: f.sockets, gatewayPID: f.gatewayPID, captureFlags: f.capture,
	}
	for _, text := range f.local {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --local: %w", errUsage, err)
		}
		out.local = append(out.local, a)
	}
	switch {
	case f.sockets < 0:
		return nil, fmt.Errorf("%w: --sockets: 0, or how many", errUsage)
	case f.sockets > 0 && f.devices > device.MaxShared:
		return nil, fmt.Errorf("%w: --devices: at most %d where sockets are shared", errUsage, device.MaxShared)
	case f.sockets > 0:
		allowFiles(uint64(f.sockets) + 1024)
	default:
		if may := allowFiles(2*f.devices + 1024); may < f.devices {
			return nil, fmt.Errorf("%w: --devices: %d need as many sockets, and this process may open %d files: have them share some, such as --sockets 1000", errUsage, f.devices, may)
		}
	}
	if _, err := gatewayTime(f.gatewayPID); err != nil {
		return nil, fmt.Errorf("%w: --gateway-pid: %w", errUsage, err)
	}
	if out.profile, err = f.profileOf(); err != nil {
		return nil, err
	}
	if out.roots, out.anchors, err = identity.Roots(f.roots); err != nil {
		return nil, err
	}
	out.verify = device.VerifyGateway(out.roots, f.gatewayID)
	switch {
	case f.certificate != "" && f.key != "" && f.ca == "" && f.caKey == "":
		out.devices = 1
		out.source, err = identity.Load(f.certificate, f.key)
	case f.ca != "" && f.caKey != "" && f.certificate == "" && f.key == "":
		if f.devices == 0 {
			return nil, fmt.Errorf("%w: --devices: at least 1", errUsage)
		}
		out.source, err = identity.NewIssuer(f.ca, f.caKey, func(n uint64) string { return fmt.Sprintf("bench-%07d", n) })
	default:
		return nil, fmt.Errorf("%w: who are the devices? Either --certificate and --key, or --ca and --ca-key", errUsage)
	}
	return out, err
}

func profileNames() string {
	var names []string
	for _, p := range device.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// profileOf the flags: a copy, with what they change.
func (f *fleetFlags) profileOf() (*device.Profile, error) {
	for _, p := range device.Profiles() {
		if p.Name != f.profile {
			continue
		}
		own := *p
		if f.ike != "" {
			own.IKE = []string{f.ike}
		}
		if f.esp != "" {
			own.ESP = []string{f.esp}
		}
		if _, err := own.Suites(); err != nil {
			return nil, fmt.Errorf("%w: --ike %q: %w", errUsage, f.ike, err)
		}
		if _, err := own.Algorithms(); err != nil {
			return nil, fmt.Errorf("%w: --esp %q: %w", errUsage, f.esp, err)
		}
		return own.Parsed()
	}
	return nil, fmt.Errorf("%w: --profile %q is none of %s", errUsage, f.profile, profileNames())
}

// issue has all identities made before anything is measured.
func (f *fleet) issue(ctx context.Context, say func(string)) error {
	for n := range f.devices {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := f.source.Identity(n); err != nil {
			return err
		}
		if n%1000 == 999 {
			say(fmt.Sprintf("certificates: %d of %d", n+1, f.devices))
		}
	}
	return nil
}

// device of a number.
func (f *fleet) device(number uint64) (*device.Device, error) {
	cfg, err := f.config(number)
	if err != nil {
		return nil, err
	}
	return device.New(cfg)
}

func (f *fleet) config(number uint64) (device.Config, error) {
	id, err := f.source.Identity(number % f.devices)
	if err != nil {
		return device.Config{}, err
	}
	cfg := device.Config{
		Listen:  f.listen,
		Gateway: f.gateway, GatewayNATT: f.natt,
		ID: id.ID, Credential: id.Credential, GatewayID: f.gatewayID,
		Verify: f.verify, TrustAnchors: f.anchors, Profile: f.profile, KeyPair: f.pairs.next,
	}
	if f.capture != nil {
		f.capture.Device(&cfg)
	}
	return cfg, nil
}

// listen opens a device's socket, or gives it its part in one.
func (f *fleet) listen() (device.Socket, error) {
	if f.sockets == 0 {
		return f.open()
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	if f.pool == nil {
		pool, err := device.NewPool(f.open, f.sockets)
		if err != nil {
			return nil, err
		}
		f.pool = pool // until the process ends
	}
	return f.pool.Listen()
}

// open a socket, of a device or of several.
func (f *fleet) open() (device.Socket, error) {
	conn, err := f.dial()
	if err != nil {
		return nil, err // not a typed nil
	}
	if f.sockets > 0 && f.capture == nil {
		return batch.New(conn)
	}
	return f.noting(conn), nil
}

func (f *fleet) dial() (*net.UDPConn, error) {
	network := "udp4"
	if f.gateway.Addr().Is6() {
		network = "udp6"
	}
	var local *net.UDPAddr
	if n := uint64(len(f.local)); n > 0 {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.local[f.turn.Add(1)%n], 0))
	}
	conn, err := net.ListenUDP(network, local)
	if err == nil && f.sockets > 0 {
		_ = conn.SetReadBuffer(sharedBuffer)
	}
	return conn, err
}

// sharedBuffer is what the kernel is asked to hold, in octets, of what comes for the
// devices of a socket.
const sharedBuffer = 4 << 20

// allowFiles raises how many files this process may have open, where it may, and
// returns how many it has then: each device has a socket.
func allowFiles(n uint64) uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= n {
		return n
	}
	for _, to := range []unix.Rlimit{{Cur: n, Max: max(n, limit.Max)}, {Cur: limit.Max, Max: limit.Max}} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &to) == nil {
			return to.Cur
		}
	}
	return limit.Cur
}

// reasonOf a failed connection, one of few.
func reasonOf(err error) error {
	var closed *device.ClosedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &closed):
		return errors.New(string(closed.Reason))
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, context.Canceled):
		return errors.New("abandoned at the end")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("socket: %w", op.Err)
	}
	return err
}

// crowd is devices that are to be ended together.
type crowd struct {
	mu   sync.Mutex
	list []*device.Device
}

func (c *crowd) add(d *device.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, d)
}

// end closes all of them, a few at a time, within a time.
func (c *crowd) end(within time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var wg sync.WaitGroup
	places := make(chan struct{}, 64)
	for _, d := range c.list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if d.Close(ctx) != nil {
				d.Vanish()
			}
		})
	}
	wg.Wait()
	c.list = nil
}
