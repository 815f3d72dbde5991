package management

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
	"github.com/roamgate/roamgate/dmlink/wbxml"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/enroll"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/integration/netns"
)

// Nodes of a device by which commands are counted.
const (
	ringNode = "./Storm/Ring" // executed, once
	setNode  = "./Storm/Set"  // replaced, again if need be
	wipeNode = "./Vendor/MSFT/RemoteWipe/doWipe"
)

// roamer is a device in a storm: it enrolls, goes from gateway to gateway, and
// comes for sessions by itself and when it is woken. What goes wrong it tries
// again.
type roamer struct {
	s       *storm
	name    string
	code    string
	journal string
	// polls by itself; else only when it was woken.
	polls atomic.Bool
	woken chan struct{}
	// wakings by notifications out of the tunnel.
	wakings atomic.Int64

	faults dm.Faults
	// dm has one session at a time, which its turn sees to.
	dm   *dm.Client
	turn sync.Mutex

	mu     sync.Mutex
	joined *client.Result
	// came says when it last came for a session, and how that ended.
	came   string
	had    []netip.Addr
	ticket *ike.Ticket
	// fresh is one that nobody was shown.
	fresh *ike.Ticket
	up    *device.Device
}

// enrolled says whether it has its certificate, and which.
func (r *roamer) enrolled() *client.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joined
}

// join until it has its certificate.
func (r *roamer) join(ctx context.Context) {
	code, err := otp.ParseCode(r.code)
	if err != nil {
		r.s.w.t.Error(err)
		return
	}
	var pending *client.Pending
	save := func(p client.Pending) error { pending = &p; return nil }
	for ctx.Err() == nil {
		joined, err := client.Join(ctx, client.Options{Code: code, Server: r.s.w.port(portEnroll), Pending: pending, Save: save})
		if err != nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		if err := r.begin(joined); err != nil {
			r.s.w.t.Error(err)
		}
		return
	}
}

// begin to be managed.
func (r *roamer) begin(joined *client.Result) error {
	var told enroll.Configuration
	if err := json.Unmarshal(joined.Configuration, &told); err != nil {
		return err
	}
	t, now := tree.New(tree.Limits{}), time.Now()
	t.Put("./DevInfo/DevId", tree.Node{Value: tree.Value{Data: []byte(r.name)}}, now)
	t.Put(setNode, tree.Node{}, now)
	done := func(time.Time, []byte) int { return syncml.StatusOK }
	t.Put(ringNode, tree.Node{Exec: done}, now)
	t.Put(wipeNode, tree.Node{Exec: done}, now)
	journal, err := dm.OpenJournal(r.journal)
	if err != nil {
		return err
	}
	r.s.w.t.Cleanup(func() { journal.Close() })
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	own := tls.Certificate{PrivateKey: joined.Key, Leaf: joined.Certificate, Certificate: chain(joined)}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.s.w.root, Certificates: []tls.Certificate{own}}}
	r.s.w.t.Cleanup(transport.CloseIdleConnections)
	r.dm = dm.New(dm.Config{
		URL: told.Management, Device: r.name, Server: told.ManagementID, Syntax: wbxml.WBXML, Tree: t, Journal: journal,
		Client: &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}, Account: &dm.Account{Scheme: session.Certificate},
		Faults: r.faults,
	})
	r.mu.Lock()
	r.joined = joined
	r.mu.Unlock()
	return nil
}

// chain without the root.
func chain(joined *client.Result) [][]byte {
	all := [][]byte{joined.Certificate.Raw}
	for _, c := range joined.Chain[:len(joined.Chain)-1] {
		all = append(all, c.Raw)
	}
	return all
}

// session with device management.
func (r *roamer) session(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	_, err := r.dm.Session(ctx)
	return err
}

// manage comes for sessions.
func (r *roamer) manage(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.After(time.Duration(300+rand.IntN(1500)) * time.Millisecond)
		select {
		case <-r.woken:
		case <-wait:
			if !r.polls.Load() {
				continue
			}
		case <-ctx.Done():
			return
		}
		began := time.Now()
		err := r.session(ctx)
		r.mu.Lock()
		r.came = fmt.Sprintf("%s for %v: %v", began.Format(time.TimeOnly), time.Since(began).Round(time.Millisecond), err)
		r.mu.Unlock()
	}
}

// comes says whether device management lets it in, once that is clear.
func (r *roamer) comes(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := r.session(ctx)
		if err == nil || errors.Is(err, dm.ErrStatus) {
			return err == nil
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			r.s.w.t.Errorf("%s: device management neither lets it in nor refuses it: %v", r.name, err)
			return false
		}
	}
}

// config at an outpost, by a ticket or, with nil, in full.
func (r *roamer) config(o *outpost, by *ike.Ticket) device.Config {
	joined := r.enrolled()
	roots := x509.NewCertPool()
	roots.AddCert(joined.Root)
	near := o.top.Devices[0]
	return device.Config{
		Listen: func() (device.Socket, error) {
			conn, err := near.ListenPacket("udp4", near.Address)
			if err != nil {
				return nil, err
			}
			return conn.(*net.UDPConn), nil
		},
		Gateway: netip.AddrPortFrom(netns.GatewayOutside, 500), GatewayNATT: netip.AddrPortFrom(netns.GatewayOutside, 4500),
		ID:         &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(r.name)},
		Credential: ike.Credential{Chain: chain(joined), Signer: joined.Key},
		GatewayID:  &ikewire.ID{IDType: ikewire.IDFQDN, Data: []byte(gatewayName)}, Verify: device.VerifyGateway(roots, gatewayName),
		TrustAnchors: [][20]byte{sha1.Sum(joined.Root.RawSubjectPublicKeyInfo)},
		Profile:      device.StrongSwan, Tickets: true, Ticket: by, Deliver: r.deliver,
	}
}

// deliver inner packets: notifications wake it.
func (r *roamer) deliver(packet []byte) {
	u, ok := device.ParseUDP(packet)
	if !ok || u.Src.Addr() != alertFrom || u.Dst.Port() != alert.PushPort {
		return
	}
	r.wakings.Add(1)
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// connect at an outpost. A ticket is used up by a try.
func (r *roamer) connect(ctx context.Context, o *outpost, ticketed bool) error {
	r.mu.Lock()
	var by *ike.Ticket
	if ticketed {
		by, r.ticket = r.ticket, nil
	}
	r.mu.Unlock()
	d, err := device.New(r.config(o, by))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	info, err := d.Connect(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = d
	for _, a := range info.Summary.VirtualIPs {
		if !slices.Contains(r.had, a) {
			r.had = append(r.had, a)
		}
	}
	return nil
}

// keep the newest ticket, and let go of the session without a word.
func (r *roamer) vanish() {
	r.mu.Lock()
	d := r.up
	r.up = nil
	r.mu.Unlock()
	if d == nil {
		return
	}
	ticket := d.Ticket()
	d.Vanish()
	if ticket != nil {
		r.mu.Lock()
		r.ticket = ticket
		r.mu.Unlock()
	}
}

// connected says whether the tunnel carries packets.
func (r *roamer) connected(ctx context.Context) bool {
	r.mu.Lock()
	d := r.up
	r.mu.Unlock()
	if d == nil || d.Info().State != device.Up {
		return false
	}
	// A packet may get lost, and the machine have much else to do.
	for range 3 {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := d.Ping(ctx, netns.LANHost, make([]byte, 56))
		cancel()
		if err == nil {
			return true
		}
	}
	return false
}

// roam from gateway to gateway until settle, and then stay.
func (r *roamer) roam(ctx context.Context, settle <-chan struct{}) {
	for ctx.Err() == nil {
		o := r.s.outposts[rand.IntN(len(r.s.outposts))]
		if err := r.connect(ctx, o, rand.IntN(2) == 0); err != nil {
			pause(ctx, 200*time.Millisecond)
			continue
		}
		until := time.After(time.Duration(1+rand.IntN(4)) * time.Second)
		for stays := true; stays && r.connected(ctx); {
			select {
			case <-settle:
				until = nil
				pause(ctx, time.Second)
			case <-until:
				stays = false
			case <-time.After(500 * time.Millisecond):
			}
		}
		r.vanish()
	}
}

// ticketed says whether its session gave it a ticket, and keeps that for returns.
func (r *roamer) ticketed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up != nil && r.fresh == nil {
		r.fresh = r.up.Ticket()
	}
	return r.fresh != nil
}

// returns tries to come back by all ways, and says by which it got in.
func (r *roamer) returns(ctx context.Context) (list []attempt) {
	r.mu.Lock()
	ticket := r.ticket
	if r.fresh != nil {
		ticket = r.fresh
	}
	r.mu.Unlock()
	for _, o := range r.s.outposts {
		// A ticket that isn't there was used up at another time.
		for way, ticketed := range map[string]bool{"ticket": true, "certificate": false} {
			r.mu.Lock()
			r.ticket = ticket
			r.mu.Unlock()
			err := r.connect(ctx, o, ticketed)
			var closed *device.ClosedError
			if err != nil && !errors.As(err, &closed) {
				r.s.w.t.Logf("%s by %s at %s: %v", r.name, way, o.name, err)
			}
			list = append(list, attempt{By: o.name + " " + way, In: err == nil})
			r.vanish()
		}
	}
	return append(list, attempt{By: "management", In: r.comes(ctx)})
}

// evidence that only it can give.
func (r *roamer) evidence(ctx context.Context) *deviceEvidence {
	e := &deviceEvidence{Up: r.connected(ctx)}
	e.Executed, e.Wiped = r.executed()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined != nil {
		e.Serial = ca.SerialString(r.joined.Certificate.SerialNumber)
	}
	e.Had = texts(r.had)
	return e
}

// executed by its journal: how often which data, and how often it was wiped.
func (r *roamer) executed() (times map[string]int, wiped int) {
	entries, err := dm.ReadJournal(r.journal)
	if err != nil {
		r.s.w.t.Error(err)
	}
	times = map[string]int{}
	for _, v := range entries {
		switch v.URI {
		case ringNode, setNode:
			times[v.Data]++
		case wipeNode:
			wiped++
		}
	}
	return times, wiped
}

func newRoamer(s *storm, name, code string) *roamer {
	r := &roamer{s: s, name: name, code: code, journal: filepath.Join(s.dir, name+".journal"), woken: make(chan struct{}, 1)}
	r.polls.Store(true)
	return r
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
