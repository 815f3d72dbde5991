package compare

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/bench/process"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
)

// contestant is a way from dev to lan.
type contestant struct {
	name string
	// available says what is missing, nil if nothing is.
	available func(p *Programs) error
	// connect sets it up: afterwards dev reaches lan.
	connect func(ctx context.Context, l *lab) error
	// serve sets up a gateway only; nil if it has none.
	serve func(ctx context.Context, l *lab) (pid int, err error)
	// variant of another contestant: it takes part where that matters.
	variant bool
}

// Names of the contestants.
const (
	Plain      = "plain"
	Gatewayd   = "gatewayd"
	WireGuard  = "wireguard-go"
	StrongSwan = "strongswan"

	// Bundles is gatewayd with gateway.external.bundles, Guarded with the XDP
	// program before it.
	Bundles = "gatewayd-bundles"
	Guarded = "gatewayd-guard"

	// Together is gatewayd and its client with AES-GCM by ipsec-mb, as `make
	// build-ipsecmb` makes them.
	Together = "gatewayd-ipsecmb"

	// XFRM is gatewayd that leaves ESP to the kernel, StrongSwanKernel strongSwan
	// that does. The client at the other end of both is strongSwan and its kernel.
	XFRM             = "gatewayd-xfrm"
	StrongSwanKernel = "strongswan-kernel"
)

// Algorithms for all: the ones that everybody is fast with.
const (
	ikeProposal = "aes128gcm16-prfsha256-x25519"
	espProposal = "aes128gcm16"
)

var contestants = []contestant{
	{name: Plain, available: func(*Programs) error { return nil }, connect: connectPlain},
	{name: Gatewayd, available: gatewaydAvailable, connect: connectGatewayd, serve: serveGatewayd},
	{name: Together, available: togetherAvailable, connect: connectTogether, serve: serveTogether},
	{name: Bundles, available: bundlesAvailable, serve: serveBundles, variant: true},
	{name: Guarded, available: gatewaydAvailable, serve: serveGuarded, variant: true},
	{name: WireGuard, available: wireGuardAvailable, connect: connectWireGuard},
	{name: StrongSwan, available: strongSwanAvailable, connect: connectStrongSwan, serve: serveStrongSwan},
	{name: XFRM, available: kernelAvailable(gatewaydAvailable), connect: connectXFRM, serve: serveXFRM},
	{name: StrongSwanKernel, available: kernelAvailable(strongSwanAvailable), connect: connectStrongSwanKernel, serve: serveStrongSwanKernel},
}

// inside is behind the gateway.
var inside = netip.PrefixFrom(netns.Inside.Masked().Addr(), netns.Inside.Bits())

// find a program, by its path or in PATH.
func find(program *string, name string) error {
	if *program == "" {
		*program = name
	}
	path, err := exec.LookPath(*program)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrMissing, *program)
	}
	*program, err = filepath.Abs(path) // it is run in another folder
	return err
}

// connectPlain is no tunnel at all: what the machine can forward.
func connectPlain(_ context.Context, l *lab) error {
	if err := l.forward(); err != nil {
		return err
	}
	return l.Devices[0].AddRoute(inside, netns.GatewayOutside)
}

func strongSwanAvailable(*Programs) error { return peer.Available() }

// kernelAvailable: what else is needed, IPsec in the kernel and strongSwan for the
// other end.
func kernelAvailable(also func(*Programs) error) func(*Programs) error {
	return func(p *Programs) error {
		if err := errors.Join(also(p), strongSwanAvailable(p)); err != nil {
			return err
		}
		if err := netns.KernelIPsec(); err != nil {
			return fmt.Errorf("%w: IPsec in the kernel: %w", ErrMissing, err)
		}
		return nil
	}
}

func gatewaydAvailable(p *Programs) error { return find(&p.Gatewayd, "gatewayd") }

func togetherAvailable(p *Programs) error {
	return errors.Join(find(&p.GatewaydTogether, "gatewayd-ipsecmb"), find(&p.BenchTogether, "bench-ipsecmb"))
}

func bundlesAvailable(p *Programs) error {
	ethtool := ""
	return errors.Join(gatewaydAvailable(p), find(&ethtool, "ethtool"))
}

// gatewaydConfig: one address comes with a thousand devices here, which no site
// would be let do; and no other contestant has a filter before it.
const gatewaydConfig = `state_dir: state
runtime_dir: run
log: {level: warn}
metrics: {listen: "off"}
gateway:
  backend: %s
  external: {interface: %s, address: %s, bundles: %v}
  internal: {interface: %s}
  identity: {id: %s, credentials: [{certificate: gw.crt, key: gw.key}]}
  trust: {roots: [ca.crt]}
  limits:
    sessions: 200000
    half_open: {max: 60000, cookie_at: 30000}
    half_open_per_prefix: {max: 60000, cookie_at: 30000}
  guard: %s
  ike: {proposals: [%s]}
  esp: {proposals: [%s]}
  static:
    pools: [10.8.0.0/15]
    networks: [%s]
`

// gatewaydOptions in which its variants differ.
type gatewaydOptions struct {
	program string // empty: gatewayd
	kernel  bool   // forwards
	bundles bool
	guard   string
}

func (o gatewaydOptions) backend() string {
	if o.kernel {
		return "xfrm"
	}
	return "userspace"
}

const noGuard = "{mode: off}"

// crowdGuard lets a thousand devices of one address in, as limits above do.
const crowdGuard = `
    mode: auto
    pins: ""
    rates:
      init: {per_second: 100000, burst: 100000}
      init_wide: {per_second: 100000, burst: 100000}
      init_narrow: {per_second: 100000, burst: 100000}`

func serveGatewayd(ctx context.Context, l *lab) (pid int, err error) {
	return l.serve(ctx, gatewaydOptions{guard: noGuard})
}

// serveBundles: network cards put segments of a flow together (GRO), a veth has to
// be told to.
func serveBundles(ctx context.Context, l *lab) (pid int, err error) {
	if _, err := l.run(ctx, l.Gateway, "ethtool", "-K", netns.OutsideLink, "gro", "on"); err != nil {
		return 0, err
	}
	return l.serve(ctx, gatewaydOptions{bundles: true, guard: noGuard})
}

func serveTogether(ctx context.Context, l *lab) (pid int, err error) {
	return l.serve(ctx, gatewaydOptions{program: l.GatewaydTogether, guard: noGuard})
}

func serveXFRM(ctx context.Context, l *lab) (pid int, err error) {
	return l.serve(ctx, gatewaydOptions{kernel: true, guard: noGuard})
}

func serveGuarded(ctx context.Context, l *lab) (pid int, err error) {
	return l.serve(ctx, gatewaydOptions{guard: crowdGuard})
}

func (l *lab) serve(ctx context.Context, o gatewaydOptions) (pid int, err error) {
	conf := fmt.Sprintf(gatewaydConfig, o.backend(), netns.OutsideLink, netns.GatewayOutside, o.bundles, netns.InsideLink, gatewayID, o.guard, ikeProposal, espProposal, inside)
	if err := os.WriteFile(l.path("gatewayd.yaml"), []byte(conf), 0o600); err != nil {
		return 0, err
	}
	program, args := l.onGateway(cmp.Or(o.program, l.Gatewayd), "run", "gateway", "--config", "gatewayd.yaml")
	if o.bundles { // needs /sys as the namespace sees it
		args = append([]string{"-m", "sh", "-c", `mount -t sysfs sysfs /sys && exec "$0" "$@"`, program}, args...)
		program = "unshare"
	}
	p, err := l.start(l.Gateway, "gatewayd", program, args...)
	if err != nil {
		return 0, err
	}
	return p.PID(), l.exists(ctx, p, "gatewayd", "run/gateway.sock")
}

// exists waits for a file that says that a program is ready.
func (l *lab) exists(ctx context.Context, p *netns.Process, name, file string) error {
	for {
		_, err := os.Stat(l.path(file))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s made no %s: %w", name, file, ctx.Err())
		case <-p.Done():
			out, _ := os.ReadFile(l.path(name + ".out"))
			return fmt.Errorf("%s ended: %w\n%s", name, p.Err(), tail(out))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func connectGatewayd(ctx context.Context, l *lab) error {
	if _, err := serveGatewayd(ctx, l); err != nil {
		return err
	}
	return l.tunnelClient(ctx, l.Bench)
}

func connectTogether(ctx context.Context, l *lab) error {
	if _, err := serveTogether(ctx, l); err != nil {
		return err
	}
	return l.tunnelClient(ctx, l.BenchTogether)
}

// tunnelClient is gatewayd's own one, of that bench.
func (l *lab) tunnelClient(ctx context.Context, bench string) error {
	p, err := l.start(l.Devices[0].Namespace, "tunnel", bench, "tunnel",
		"--gateway", netns.GatewayOutside.String(), "--gateway-id", gatewayID, "--root", "ca.crt",
		"--certificate", "dev.crt", "--key", "dev.key", "--ike", "aes128gcm16-prfsha256-curve25519", "--esp", espProposal,
		"--host", netns.LANHost.String())
	if err != nil {
		return err
	}
	return l.says(ctx, p, "tunnel", "connected")
}

func wireGuardAvailable(p *Programs) error {
	wg := ""
	return errors.Join(find(&p.WireGuard, "wireguard-go"), find(&wg, "wg"))
}

// addresses inside the WireGuard tunnel.
var (
	wgGateway = netip.MustParsePrefix("10.9.0.254/24")
	wgClient  = netip.MustParsePrefix("10.9.0.1/24")
)

func connectWireGuard(ctx context.Context, l *lab) error {
	if err := l.forward(); err != nil {
		return err
	}
	gwKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	devKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	const port = "51820"
	if err := l.wireGuard(ctx, l.Gateway, "wgg", gwKey, wgGateway,
		"ListenPort = "+port, devKey.PublicKey(), "AllowedIPs = "+wgClient.Addr().String()+"/32"); err != nil {
		return err
	}
	dev := l.Devices[0]
	if err := l.wireGuard(ctx, dev.Namespace, "wgd", devKey, wgClient, "", gwKey.PublicKey(),
		"AllowedIPs = 10.9.0.0/24, "+inside.String()+"\nEndpoint = "+netns.GatewayOutside.String()+":"+port); err != nil {
		return err
	}
	_, err = l.run(ctx, dev.Namespace, "ip", "route", "add", inside.String(), "dev", "wgd")
	return err
}

func (l *lab) wireGuard(ctx context.Context, ns *netns.Namespace, link string, key *ecdh.PrivateKey, addr netip.Prefix, own string, other *ecdh.PublicKey, theirs string) error {
	encode := base64.StdEncoding.EncodeToString
	conf := fmt.Sprintf("[Interface]\nPrivateKey = %s\n%s\n[Peer]\nPublicKey = %s\n%s\n", encode(key.Bytes()), own, encode(other.Bytes()), theirs)
	if err := os.WriteFile(l.path(link+".conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	p, err := l.start(ns, link, l.WireGuard, "-f", link)
	if err != nil {
		return err
	}
	for {
		if _, err = l.run(ctx, ns, "wg", "setconf", link, l.path(link+".conf")); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-p.Done():
			return fmt.Errorf("wireguard-go ended: %w", p.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	// 1,420 is what wg-quick gives it.
	for _, args := range []string{"addr add " + addr.String() + " dev " + link, "link set mtu 1420 up dev " + link} {
		if _, err := l.run(ctx, ns, "ip", strings.Fields(args)...); err != nil {
			return err
		}
	}
	return nil
}

// strongSwanGateway is a swanctl.conf.
const strongSwanGateway = `connections {
  gw {
    version = 2
    local_addrs = %s
    proposals = aes128gcm16-prfsha256-curve25519
    pools = pool
    send_cert = always
    unique = replace
    local {
      auth = pubkey
      certs = own.pem
      id = %s
    }
    remote {
      auth = pubkey
    }
    children {
      net {
        local_ts = %s
        esp_proposals = %s
      }
    }
  }
}
pools {
  pool {
    addrs = 10.8.0.0/15
  }
}
`

func serveStrongSwan(ctx context.Context, l *lab) (pid int, err error) {
	return l.serveStrongSwan(ctx)
}

func serveStrongSwanKernel(ctx context.Context, l *lab) (pid int, err error) {
	return l.serveStrongSwan(ctx, peer.KernelIPsec)
}

func (l *lab) serveStrongSwan(ctx context.Context, options ...peer.Option) (pid int, err error) {
	if err := l.forward(); err != nil {
		return 0, err
	}
	c, err := l.charon(ctx, l.Gateway, "charon-gw", options...)
	if err != nil {
		return 0, err
	}
	files, err := l.files("gw")
	if err != nil {
		return 0, err
	}
	conf := fmt.Sprintf(strongSwanGateway, netns.GatewayOutside, gatewayID, inside, espProposal)
	return c.PID(), c.LoadText(ctx, conf, files)
}

func (l *lab) charon(ctx context.Context, ns *netns.Namespace, name string, options ...peer.Option) (*peer.Charon, error) {
	if err := os.Mkdir(l.path(name), 0o700); err != nil {
		return nil, err
	}
	c, err := peer.Start(ctx, ns, l.path(name), append(options, peer.Crowd)...)
	if err != nil {
		return nil, err
	}
	if l.apart {
		if err := process.Pin(c.PID(), l.gateway); err != nil {
			return nil, err
		}
	}
	l.running = append(l.running, func() { _ = c.Stop() })
	// A log with every message would be part of what is measured.
	return c, c.Set(ctx, peer.Settings{Quiet: true})
}

func (l *lab) files(name string) (f peer.Files, err error) {
	for _, x := range []struct {
		to   *[]byte
		file string
	}{{&f.CA, "ca.crt"}, {&f.Cert, name + ".crt"}, {&f.Key, name + ".key"}} {
		if *x.to, err = os.ReadFile(l.path(x.file)); err != nil {
			return f, err
		}
	}
	return f, nil
}

func connectStrongSwan(ctx context.Context, l *lab) error {
	if _, err := serveStrongSwan(ctx, l); err != nil {
		return err
	}
	return l.strongSwanClient(ctx)
}

func connectStrongSwanKernel(ctx context.Context, l *lab) error {
	if _, err := serveStrongSwanKernel(ctx, l); err != nil {
		return err
	}
	return l.strongSwanClient(ctx, peer.KernelIPsec)
}

func connectXFRM(ctx context.Context, l *lab) error {
	if _, err := serveXFRM(ctx, l); err != nil {
		return err
	}
	return l.strongSwanClient(ctx, peer.KernelIPsec)
}

func (l *lab) strongSwanClient(ctx context.Context, options ...peer.Option) error {
	dev := l.Devices[0]
	c, err := l.charon(ctx, dev.Namespace, "charon-dev", options...)
	if err != nil {
		return err
	}
	files, err := l.files("dev")
	if err != nil {
		return err
	}
	conn := peer.Connection{
		Files: files, LocalID: clientID, Gateway: netns.GatewayOutside, RemoteID: gatewayID, Local: dev.Address,
		IKEProposals: []string{"aes128gcm16-prfsha256-curve25519"}, ESPProposals: []string{espProposal},
		Remote: []netip.Prefix{inside},
	}
	if err := c.Load(ctx, conn); err != nil {
		return err
	}
	return c.Connect(ctx, 20*time.Second)
}
