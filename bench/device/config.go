package device

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Socket is what a device sends and receives by. A *net.UDPConn is one; it may
// be opened in another network namespace. One that lives in memory must not
// keep slices after a call.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

var _ Socket = (*net.UDPConn)(nil)

// Config of a Device.
type Config struct {
	// Listen opens a socket: the first one, and another one for each RemapPort.
	Listen func() (Socket, error)
	// Gateway is its port for IKE (500), GatewayNATT its port for ESP in UDP
	// (4500). They differ.
	Gateway, GatewayNATT netip.AddrPort

	// ID and Credential of the device.
	ID         *ikewire.ID
	Credential ike.Credential
	// GatewayID goes into IDr, for profiles that send one.
	GatewayID *ikewire.ID
	// Verify says whether the gateway may be trusted; see VerifyGateway.
	Verify Verify
	// TrustAnchors go into CERTREQ: SHA-1 of the SubjectPublicKeyInfo of each
	// root.
	TrustAnchors [][20]byte
	// Networks to ask for as the gateway's traffic selectors; none means all.
	Networks []netip.Prefix
	// Want are the inner addresses to ask for; none means any.
	Want []netip.Addr

	// Addresses of the device, told to the gateway beside the one in use, and
	// NoNATs, which forbids NATs on the way; both where MOBIKE is agreed on (RFC
	// 4555 sections 3.4 and 3.9). A device that forbids NATs has to listen at an
	// address, not at all of them.
	Addresses []netip.Addr
	NoNATs    bool
	// Tickets asks for tickets, see Device.Ticket.
	Tickets bool
	// Ticket to resume by (RFC 5723); nil connects in full, as does one that is
	// refused. It stays the caller's.
	Ticket *ike.Ticket

	// KeyPair gives a key pair of a group, made before and to be used once, or nil
	// where there is none; nil makes all when they are needed.
	KeyPair func(group uint16) ikecrypto.KeyExchange

	// Profile is how the client speaks.
	Profile *Profile
	// ChildLife and IKELife are the device's own lifetimes; zero means that it
	// never rekeys by itself.
	ChildLife, IKELife ike.Lifetime
	// Keepalive is how long nothing may be sent before a NAT keepalive is (RFC
	// 3948 section 4); 0 is 20 s, negative sends none.
	Keepalive time.Duration

	// Deliver takes inner packets on the goroutine of who has the device; the
	// packet is valid during the call, which must not block and not call the device
	// but for Send. Without Deliver and TUN, packets wait for Receive.
	Deliver func(packet []byte)
	// TUN, if set, is read from and written to, a packet at a time, without a
	// header. Its Read has to return when the caller closes it.
	TUN io.ReadWriter
	// Forward, if set, has the Child SAs instead of the device, which then
	// carries no packets: Send, Deliver, TUN and Ping are not used. A
	// dataplane.Backend is one. It is called by the rules of Deliver.
	Forward Forwarder
	// Queue is how many packets may wait in each direction; 0 is 256.
	Queue int
	// Compute runs a computation of IKE, such as a signature, on another
	// goroutine; nil runs it at once.
	Compute func(func())
	// Observe sees what the IKE machines tell, by the rules of Deliver.
	Observe func(ike.Output)
	// ExportKeys has Observe see the keys of all SAs (ike.KeysDerived), for packet
	// dissectors.
	ExportKeys bool
	// Rand is the source of nonces, SPIs and private keys, safe for concurrent
	// use; nil is crypto/rand.
	Rand io.Reader
}

// Forwarder forwards the packets of Child SAs, as a dataplane.Backend does.
type Forwarder interface {
	Reserve(hint netip.Addr) (dataplane.SPI, error)
	Apply(changes []dataplane.Change) []error
}

const (
	defaultQueue     = 256
	defaultKeepalive = 20 * time.Second
)

func (c *Config) setDefaults() {
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Keepalive == 0 {
		c.Keepalive = defaultKeepalive
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
}

func (c *Config) validate() error {
	switch {
	case c.Listen == nil:
		return fmt.Errorf("%w: nothing to listen with", ErrConfig)
	case !c.Gateway.IsValid() || !c.GatewayNATT.IsValid() || c.Gateway == c.GatewayNATT:
		return fmt.Errorf("%w: gateway %v, %v", ErrConfig, c.Gateway, c.GatewayNATT)
	case c.ID == nil || c.Credential.Signer == nil:
		return fmt.Errorf("%w: no identity or no key", ErrConfig)
	case c.Verify == nil:
		return fmt.Errorf("%w: nobody verifies the gateway", ErrConfig)
	case c.Profile == nil:
		return fmt.Errorf("%w: no profile", ErrConfig)
	case c.Queue < 0:
		return fmt.Errorf("%w: queue of %d", ErrConfig, c.Queue)
	case c.Deliver != nil && c.TUN != nil || c.Forward != nil && (c.Deliver != nil || c.TUN != nil):
		return fmt.Errorf("%w: packets go to Deliver, to TUN or to Forward, only one of them", ErrConfig)
	}
	return nil
}

// Patience of clients is much alike: five to seven tries, each twice as long
// as the one before.
const (
	halfOpen   = 30 * time.Second
	retransmit = time.Second
	tries      = 6
)

// machine is the configuration of the IKE machine. Errors: ErrConfig, if the
// profile offers nothing that the machine can do.
func (c *Config) machine() (*ike.Config, error) {
	p := c.Profile
	suites, err := p.Suites()
	if err != nil {
		return nil, err
	}
	algorithms, err := p.Algorithms()
	if err != nil {
		return nil, err
	}
	return &ike.Config{
		Suites: suites, ESP: algorithms,
		ID: c.ID, Credentials: []ike.Credential{c.Credential}, TrustAnchors: c.TrustAnchors,
		ForceUDP: true,
		HalfOpen: halfOpen, Retransmit: retransmit, Tries: tries,
		ChildLife: c.ChildLife, IKELife: c.IKELife, MaxChildren: maxChildren,
		Legacy: p.Legacy, FragmentSize: p.FragmentSize, MOBIKE: p.MOBIKE, Addresses: c.Addresses, Tickets: c.Tickets,
		ExportKeys: c.ExportKeys, Rand: c.Rand,
	}, nil
}

// initiator of a connection from local.
func (c *Config) initiator(m *ike.Config, local netip.AddrPort) *ike.InitiatorConfig {
	i := &ike.InitiatorConfig{
		Config: m,
		Local:  local, Remote: c.Gateway, LocalNATT: local, RemoteNATT: c.GatewayNATT,
		Want: c.Want, IPv6: c.Profile.IPv6, Networks: c.Networks, NoNATs: c.NoNATs, Ticket: c.Ticket, KeyPair: c.KeyPair,
	}
	if c.Profile.SendIDr {
		i.RemoteID = c.GatewayID
	}
	return i
}
