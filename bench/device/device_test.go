package device

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
)

func timeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// TestEveryClient: each maker's client connects and moves packets, or is told
// why not.
func TestEveryClient(t *testing.T) {
	for _, c := range []struct {
		profile *Profile
		suite   string // agreed on; or, if it is refused, empty
		esp     string
	}{
		{Windows10Default, "", ""},
		{Windows11Default, "", ""},
		{Windows10Profile, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_384", "AES_GCM_16_256"},
		{Windows10ProfileMODP2048, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC_256/HMAC_SHA2_256_128"},
		{AppleIOS, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC_256/HMAC_SHA2_256_128"},
		{Android, "AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_GCM_16_256"},
		{StrongSwan, "AES_GCM_16_256/PRF_HMAC_SHA2_384/ECP_384", "AES_GCM_16_256"},
	} {
		t.Run(c.profile.Name, func(t *testing.T) {
			inWorld(t, nil, func(w *world) {
				d := w.device(func(cfg *Config) { cfg.Profile = c.profile })
				info, err := d.Connect(w.Context())
				if c.suite == "" {
					var closed *ClosedError
					if !errors.As(err, &closed) || closed.Reason != ike.ClosePeerRefused || closed.Detail != "NO_PROPOSAL_CHOSEN" {
						w.Fatalf("Connect: %v, want NO_PROPOSAL_CHOSEN", err)
					}
					w.gateway.do(func() {
						if len(w.gateway.closed) != 1 || !strings.Contains(w.gateway.closed[0].Detail, "MODP_1024") {
							w.Errorf("the gateway says %v, want the offer by name", w.gateway.closed)
						}
					})
					return
				}
				if err != nil {
					w.Fatal(err)
				}
				if info.Summary.IKE != c.suite || info.Summary.ESP != c.esp || info.Summary.VirtualIPs[0] != firstIP {
					w.Errorf("agreed on %s, %s, %v; want %s, %s", info.Summary.IKE, info.Summary.ESP, info.Summary.VirtualIPs, c.suite, c.esp)
				}
				w.ping(d)
				if err := d.Close(w.Context()); err != nil {
					w.Error(err)
				}
				synctest.Wait()
				w.gateway.do(func() {
					// Some begin with another group than the gateway's first.
					closed := slices.DeleteFunc(w.gateway.closed, func(c ike.Closed) bool { return c.Reason == ike.CloseInvalidKE })
					if len(closed) != 1 || closed[0].Reason != ike.ClosePeerDeleted {
						w.Errorf("the gateway closed %v, want one deleted by the peer", w.gateway.closed)
					}
				})
			})
		})
	}
}

// TestStrangersAreRefused: a gateway of another name or CA.
func TestStrangersAreRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		other := &gateway{}
		other.issue("another root")
		for what, verify := range map[string]Verify{
			"another name": VerifyGateway(w.gateway.roots, "elsewhere.example"),
			"another root": VerifyGateway(other.roots, "gw.example"),
		} {
			d := w.device(func(c *Config) { c.Verify = verify })
			var closed *ClosedError
			if _, err := d.Connect(w.Context()); !errors.As(err, &closed) || closed.Reason != ike.CloseRefused {
				w.Errorf("%s: %v, want it refused", what, err)
			}
		}
	})
}

// slowSocket takes its time to close.
type slowSocket struct {
	Socket
	closed atomic.Bool
}

func (s *slowSocket) Close() error {
	time.Sleep(time.Second)
	s.closed.Store(true)
	return s.Socket.Close()
}

// TestEndedDeviceHasNoSocket: whoever hears that a device ended can listen where
// it did.
func TestEndedDeviceHasNoSocket(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var socket *slowSocket
		listen := w.net.listener("10.1.0.2")
		d := w.device(func(c *Config) {
			c.Verify = VerifyGateway(w.gateway.roots, "elsewhere.example")
			c.Listen = func() (Socket, error) {
				s, err := listen()
				socket = &slowSocket{Socket: s}
				return socket, err
			}
		})
		if _, err := d.Connect(w.Context()); err == nil || !socket.closed.Load() {
			w.Errorf("Connect: %v; socket closed %t, want an error and true", err, socket.closed.Load())
		}
	})
}

// TestNobodyAnswers: Connect gives up by itself, or when it is told to.
func TestNobodyAnswers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.net.rule(func(netip.AddrPort, netip.AddrPort, []byte) bool { return true })
		began := time.Now()
		var closed *ClosedError
		if _, err := w.device(nil).Connect(w.Context()); !errors.As(err, &closed) || closed.Reason != ike.CloseHalfOpenTimeout {
			w.Errorf("Connect: %v, want a timeout", err)
		}
		if took := time.Since(began); took != halfOpen {
			w.Errorf("gave up after %v, want %v", took, halfOpen)
		}
		ctx, cancel := timeout(w.T, 3*time.Second)
		defer cancel()
		d := w.device(nil)
		if _, err := d.Connect(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("Connect: %v, want the context's error", err)
		}
		if err := d.Send([]byte{0x45}); !errors.Is(err, ErrGone) {
			w.Errorf("Send: %v, want %v", err, ErrGone)
		}
		if _, err := d.Connect(w.Context()); !errors.Is(err, ErrState) {
			w.Errorf("second Connect: %v, want %v", err, ErrState)
		}
	})
}

// TestGatewayDeletes: the device is told, and answers retransmissions.
func TestGatewayDeletes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		answers := 0
		w.net.rule(func(from, to netip.AddrPort, _ []byte) bool {
			if to == gwNATT {
				answers++
			}
			return to == gwNATT && answers == 1
		})
		w.gateway.do(func() { w.gateway.step(w.gateway.machines[0], ike.Close{Reason: ike.CloseKilled}) })
		time.Sleep(3 * time.Second)
		if i := d.Info(); i.State != Ended || i.Closed == nil || i.Closed.Reason != ike.ClosePeerDeleted {
			w.Errorf("deleted: %+v", i)
		}
		w.gateway.do(func() {
			if len(w.gateway.closed) != 1 || w.gateway.closed[0].Reason != ike.CloseKilled || answers != 2 {
				w.Errorf("the gateway closed %v after %d answers", w.gateway.closed, answers)
			}
		})
		time.Sleep(time.Minute)
		if err := d.Send([]byte{0x45}); !errors.Is(err, ErrGone) {
			w.Errorf("Send after a minute: %v, want %v", err, ErrGone)
		}
	})
}

// TestGatewayVanishes: who is asked and doesn't answer is given up.
func TestGatewayVanishes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		if err := d.Probe(); err != nil {
			w.Error(err)
		}
		synctest.Wait()
		if i := d.Info(); i.State != Up {
			w.Errorf("the gateway answered: %+v", i)
		}
		w.net.rule(func(_, to netip.AddrPort, _ []byte) bool { return to == gwNATT })
		if err := d.Probe(); err != nil {
			w.Error(err)
		}
		time.Sleep(5 * time.Minute)
		i := d.Info()
		if i.State != Ended || i.Closed == nil || i.Closed.Reason != ike.CloseTimeout {
			w.Errorf("after 5 minutes of silence: %+v", i)
		}
		if _, err := d.Receive(w.Context()); !errors.Is(err, ErrGone) {
			w.Errorf("Receive: %v, want %v", err, ErrGone)
		}
	})
}

// TestPackets that are odd: none, one that needs a buffer of its own, and pings
// that nobody answers.
func TestPackets(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		_ = d.Send(nil)
		synctest.Wait()
		if c := d.Counters(); c.Drops[DropInner] != 1 || c.Sent != 0 {
			w.Errorf("an empty packet: %+v", c)
		}
		ctx, cancel := timeout(w.T, time.Second)
		defer cancel()
		if _, err := d.Ping(ctx, lan, make([]byte, 4000)); err != nil {
			w.Errorf("a long packet: %v", err)
		}
		if _, err := d.Ping(ctx, netip.MustParseAddr("fd00:2::2"), nil); !errors.Is(err, ErrState) {
			w.Errorf("ping from a family without address: %v, want %v", err, ErrState)
		}
		w.net.rule(func(from, _ netip.AddrPort, _ []byte) bool { return from == gwNATT })
		if _, err := d.Ping(ctx, lan, nil); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("ping that is lost: %v", err)
		}
		if _, err := d.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			w.Errorf("Receive: %v", err)
		}
		ip := d.Info().Summary.VirtualIPs[0]
		w.net.rule(nil)
		w.plane.send(down(ip, 5))
		if p, err := d.Receive(w.Context()); err != nil || len(p) != ip4Len+echoLen {
			w.Errorf("Receive: %d octets, %v", len(p), err)
		}
	})
}

// TestLost counts holes, and takes them back where a packet was only late.
func TestLost(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		ip := d.Info().Summary.VirtualIPs[0]
		n := 0
		var late []byte
		w.net.rule(func(from, to netip.AddrPort, data []byte) bool {
			if from != gwNATT {
				return false
			}
			if n++; n == 4 {
				late = append([]byte(nil), data...)
			}
			return n == 2 || n == 4
		})
		for i := range uint16(6) {
			w.plane.send(down(ip, i))
		}
		synctest.Wait()
		if c := d.Counters(); c.Lost != 2 || c.Received != 4 {
			w.Errorf("counters %+v, want 2 lost, 4 received", c)
		}
		_, _ = w.plane.esp.WriteToUDPAddrPort(late, d.Info().Local)
		synctest.Wait()
		_, _ = w.plane.esp.WriteToUDPAddrPort(late, d.Info().Local)
		synctest.Wait()
		if c := d.Counters(); c.Lost != 1 || c.Received != 5 || c.Drops[DropReplay] != 1 {
			w.Errorf("counters %+v, want 1 lost, 5 received, 1 replay", c)
		}
		var got []uint16
		for range 5 {
			p := must(d.Receive(w.Context()))
			e, _ := ParseEcho(p)
			got = append(got, e.Number)
		}
		if fmt.Sprint(got) != "[0 2 4 5 3]" {
			w.Errorf("received %v", got)
		}
	})
}

// TestJunk: whatever comes from the network, it is counted and nothing else.
func TestJunk(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(nil)
		local := d.Info().Local
		stranger := w.net.listen(netip.MustParseAddrPort("10.66.0.1:4500"))
		defer stranger.Close()
		before := d.Counters().Drops
		for _, junk := range []struct {
			from *endpoint
			data string
			want Drop
		}{
			{stranger, "\x00\x00\x00\x00junk", DropStranger},
			{w.plane.esp, "abc", DropShort},
			{w.plane.esp, "abcdefg", DropShort},
			{w.plane.esp, "\x00\x00\x00\x00", DropUnknownIKE},
			{w.plane.esp, "\x00\x00\x00\x00" + strings.Repeat("x", 28), DropUnknownIKE},
			{w.plane.ike, strings.Repeat("y", 28), DropUnknownIKE},
			{w.plane.esp, strings.Repeat("z", 100), DropUnknownSPI},
			{w.plane.esp, spi(d) + "\x00\x00\x00\x00" + strings.Repeat("z", 100), DropReplay},
			{w.plane.esp, spi(d) + "\x00\x00\x00\x07" + strings.Repeat("z", 100), DropIntegrity},
		} {
			_, _ = junk.from.WriteToUDPAddrPort([]byte(junk.data), local)
			synctest.Wait()
			before[junk.want]++
			if got := d.Counters().Drops; got != before {
				w.Errorf("%.12q: drops %v, want %v", junk.data, got, before)
			}
		}
		w.ping(d)
	})
}

// spi is the inbound SPI of a device on the wire.
func spi(d *Device) string {
	s := uint32(d.Info().Child)
	return string([]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
}

// TestManyDevices: two goroutines each, and each has a session of its own.
func TestManyDevices(t *testing.T) {
	const devices = 100
	inWorld(t, nil, func(w *world) {
		credential := w.gateway.config("fleet")
		idle := runtime.NumGoroutine()
		var wg sync.WaitGroup
		for i := range devices {
			cfg := credential
			cfg.Listen = w.net.listener(fmt.Sprintf("10.1.1.%d", i+1))
			d := w.device(func(c *Config) { *c = cfg })
			wg.Go(func() {
				if _, err := d.Connect(w.Context()); err != nil {
					w.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if n := runtime.NumGoroutine() - idle; n > 2*devices {
			w.Errorf("%d goroutines for %d devices", n, devices)
		}
		seen := map[netip.Addr]bool{}
		for _, d := range w.devices {
			w.ping(d)
			seen[d.Info().Summary.VirtualIPs[0]] = true
		}
		if len(seen) != devices {
			w.Errorf("%d addresses for %d devices", len(seen), devices)
		}
	})
}

// TestQueues are bounded: what finds no room is dropped and counted.
func TestQueues(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.connect(func(c *Config) { c.Queue = 4 })
		ip := d.Info().Summary.VirtualIPs[0]
		for i := range uint16(7) {
			w.plane.send(down(ip, i))
			synctest.Wait()
		}
		if n := d.Counters().Drops[DropUnread]; n != 3 {
			w.Errorf("%d unread packets dropped, want 3 of 7", n)
		}
		hold, held := make(chan struct{}), make(chan struct{})
		go d.order(func(time.Time) { close(held); <-hold })
		<-held
		var errs []error
		for range 6 {
			errs = append(errs, d.Send(down(lan, 1)))
		}
		for range 9 {
			w.plane.send(down(ip, 1))
		}
		synctest.Wait()
		close(hold)
		synctest.Wait()
		if fmt.Sprint(errs) != fmt.Sprint([]error{nil, nil, nil, nil, ErrQueueFull, ErrQueueFull}) {
			w.Errorf("Send: %v", errs)
		}
		if n := d.Counters().Drops[DropInboxFull]; n != 5 {
			w.Errorf("%d datagrams dropped, want 5 of 9", n)
		}
	})
}

// TestTUN: packets of a TUN device go both ways, and others than Deliver's
// goroutine compute.
func TestTUN(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		tun := newFakeTUN()
		computed := 0
		d := w.connect(func(c *Config) {
			c.TUN = tun
			c.Compute = func(f func()) { computed++; go f() }
		})
		ip := d.Info().Summary.VirtualIPs[0]
		tun.up <- Echo{Src: ip, Dst: lan, ID: 9, Number: 1, Data: []byte("through the TUN")}.Append(nil)
		e, ok := ParseEcho(<-tun.down)
		if !ok || !e.Reply || e.ID != 9 || string(e.Data) != "through the TUN" {
			w.Errorf("got %+v, %v", e, ok)
		}
		if computed < 4 {
			w.Errorf("%d computations went elsewhere, want those of a handshake", computed)
		}
		close(tun.up)
	})
}

type fakeTUN struct{ up, down chan []byte }

func newFakeTUN() *fakeTUN { return &fakeTUN{make(chan []byte), make(chan []byte, 8)} }

func (f *fakeTUN) Read(b []byte) (int, error) {
	p, ok := <-f.up
	if !ok {
		return 0, errors.New("closed")
	}
	return copy(b, p), nil
}

func (f *fakeTUN) Write(b []byte) (int, error) {
	f.down <- append([]byte(nil), b...)
	return len(b), nil
}

// TestConfigRefused: each thing that is missing.
func TestConfigRefused(t *testing.T) {
	g := &gateway{}
	g.issue("root")
	good := g.config("dev")
	good.Listen = newNetwork().listener("10.1.0.2")
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*Config){
		"no socket":   func(c *Config) { c.Listen = nil },
		"no gateway":  func(c *Config) { c.Gateway = netip.AddrPort{} },
		"one port":    func(c *Config) { c.Gateway = c.GatewayNATT },
		"no identity": func(c *Config) { c.ID = nil },
		"no key":      func(c *Config) { c.Credential.Signer = nil },
		"trusts all":  func(c *Config) { c.Verify = nil },
		"no profile":  func(c *Config) { c.Profile = nil },
		"two ways":    func(c *Config) { c.TUN, c.Deliver = newFakeTUN(), func([]byte) {} },
		"no offer":    func(c *Config) { c.Profile = &Profile{IKE: []string{"des-sha1-modp1024"}} },
		"unknown":     func(c *Config) { c.Profile = &Profile{IKE: []string{"rot13"}} },
	} {
		cfg := good
		edit(&cfg)
		if _, err := New(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want %v", what, err, ErrConfig)
		}
	}
	d := must(New(good))
	if err := d.Sleep(); !errors.Is(err, ErrState) {
		t.Errorf("Sleep before Connect: %v, want %v", err, ErrState)
	}
}

// TestStart tells once: that the device is up, or how it ended; and it may be
// connected once only.
func TestStart(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		told := make(chan Info, 10)
		start := func(edit func(*Config)) *Device {
			cfg := w.gateway.config("dev")
			cfg.Listen = w.net.listener("10.1.0.3")
			edit(&cfg)
			d := must(New(cfg))
			if err := d.Start(func(i Info) { told <- i }); err != nil {
				w.Fatal(err)
			}
			return d
		}
		d := start(func(*Config) {})
		if i := <-told; i.State != Up {
			w.Errorf("told of %v, want up", i.State)
		}
		if err := d.Start(func(i Info) { told <- i }); !errors.Is(err, ErrState) {
			w.Errorf("a second Start: %v", err)
		}
		if _, err := d.Connect(w.Context()); !errors.Is(err, ErrState) {
			w.Errorf("Connect after Start: %v", err)
		}
		d.Vanish()
		start(func(c *Config) {
			c.Verify = func(*ikewire.ID, [][]byte) (crypto.PublicKey, error) { return nil, errors.New("nobody") }
		})
		if i := <-told; i.Closed == nil || i.Closed.Reason != ike.CloseRefused {
			w.Errorf("told of %+v, want how it ended", i.Closed)
		}
		synctest.Wait()
		if len(told) != 0 {
			w.Errorf("told again of %+v", <-told)
		}
	})
}
