package integration

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// matrixAuth is a kind of authentication, of both sides: their certificates have
// such keys.
type matrixAuth struct {
	name string
	key  func(*testing.T) crypto.Signer
	// auth of the client, in strongSwan's words.
	auth string
	// announced: the client knows RFC 7427.
	announced bool
	// client and gateway as the client's log names how they signed.
	client, gateway string
}

// matrixAlgorithm is an algorithm as proposed and as the client reports it.
type matrixAlgorithm struct{ name, seen string }

var (
	matrixAuths = []matrixAuth{
		{name: "ecdsa-256", key: keyECDSA, auth: "pubkey", announced: true, client: "ECDSA_WITH_SHA256_DER", gateway: "ECDSA_WITH_SHA256_DER"},
		{name: "ecdsa-384", key: keyP384, auth: "pubkey", announced: true, client: "ECDSA_WITH_SHA384_DER", gateway: "ECDSA_WITH_SHA384_DER"},
		{name: "ecdsa-521", key: keyP521, auth: "pubkey", announced: true, client: "ECDSA_WITH_SHA512_DER", gateway: "ECDSA_WITH_SHA512_DER"},
		{name: "rsa-pkcs1", key: keyRSA, auth: "ike:rsa-sha256", announced: true, client: "RSA_EMSA_PKCS1_SHA2_256", gateway: "RSA_"},
		{name: "rsa-pss", key: keyRSA, auth: "ike:rsa/pss-sha256", announced: true, client: "RSA_EMSA_PSS_SHA2_256", gateway: "RSA_"},
		{name: "ed25519", key: keyEd25519, auth: "pubkey", announced: true, client: "ED25519", gateway: "ED25519"},
		{name: "rsa-sha1", key: keyRSA, auth: "pubkey", client: "RSA signature", gateway: "RSA signature"},
		{name: "method-9", key: keyECDSA, auth: "pubkey", client: "ECDSA-256", gateway: "ECDSA-256"},
		{name: "method-10", key: keyP384, auth: "pubkey", client: "ECDSA-384", gateway: "ECDSA-384"},
		{name: "method-11", key: keyP521, auth: "pubkey", client: "ECDSA-521", gateway: "ECDSA-521"},
	}
	matrixIKE = []matrixAlgorithm{
		{"aes128gcm16-prfsha256", "AES_GCM_16-128/PRF_HMAC_SHA2_256"},
		{"aes192gcm16-prfsha384", "AES_GCM_16-192/PRF_HMAC_SHA2_384"},
		{"aes256gcm16-prfsha512", "AES_GCM_16-256/PRF_HMAC_SHA2_512"},
		{"chacha20poly1305-prfsha256", "CHACHA20_POLY1305/PRF_HMAC_SHA2_256"},
		{"aes128-sha256", "AES_CBC-128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256"},
		{"aes192-sha384", "AES_CBC-192/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384"},
		{"aes256-sha512", "AES_CBC-256/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512"},
		{"aes128-sha1", "AES_CBC-128/HMAC_SHA1_96/PRF_HMAC_SHA1"},
		{"3des-sha256", "3DES_CBC/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256"},
	}
	matrixGroups = []matrixAlgorithm{
		{"x25519", "CURVE_25519"}, {"ecp256", "ECP_256"}, {"ecp384", "ECP_384"}, {"ecp521", "ECP_521"},
		{"modp2048", "MODP_2048"}, {"modp3072", "MODP_3072"}, {"modp4096", "MODP_4096"}, {"modp1024", "MODP_1024"},
	}
	matrixESP = []matrixAlgorithm{
		{"aes128gcm16", "AES_GCM_16-128"}, {"aes192gcm16", "AES_GCM_16-192"}, {"aes256gcm16", "AES_GCM_16-256"},
		{"chacha20poly1305", "CHACHA20_POLY1305"},
		{"aes128-sha256", "AES_CBC-128/HMAC_SHA2_256_128"}, {"aes192-sha384", "AES_CBC-192/HMAC_SHA2_384_192"},
		{"aes256-sha512", "AES_CBC-256/HMAC_SHA2_512_256"},
		{"aes128-sha1", "AES_CBC-128/HMAC_SHA1_96"}, {"3des-sha256", "3DES_CBC/HMAC_SHA2_256_128"},
	}
	matrixInner = []struct {
		name   string
		v4, v6 bool
	}{{"v4", true, false}, {"v6", false, true}, {"dual", true, true}}
	matrixOuter = []string{"v4", "v6"}
	matrixNAT   = []string{"-", "NAT"}
)

// cell of the matrix: an index into each of the lists above.
type cell struct{ auth, ike, group, esp, inner, outer, nat int }

// Each algorithm, each kind of certificate and each address family works, and
// works with each other one: of all combinations so many that each two values
// of different dimensions stand together in one. In each cell the client
// connects, both ends agree on what was negotiated, and content goes both ways
// in each family. Two clients take turns; the gateway's certificate changes by
// reload, and the NAT comes up after half of it.
//
//	dev1 (strongSwan) -- net (no NAT, then NAT) -- gw (gatewayd) -- lan
//	dev2 (strongSwan) -/                     IPv4 and IPv6, outside and inside
func TestMatrix(t *testing.T) {
	m := newMatrix(t)
	rows := covering([]int{
		len(matrixAuths), len(matrixIKE), len(matrixGroups), len(matrixESP),
		len(matrixInner), len(matrixOuter), len(matrixNAT),
	})
	cells := make([]cell, len(rows))
	for i, r := range rows {
		cells[i] = cell{r[0], r[1], r[2], r[3], r[4], r[5], r[6]}
	}
	slices.SortStableFunc(cells, func(a, b cell) int { return cmp.Or(a.nat-b.nat, a.auth-b.auth) })
	results := make([]cellResult, len(cells))
	for from, to := 0, 0; from < len(cells); from = to {
		// The gateway's certificate and the NAT are the same for all clients.
		for to = from; to < len(cells) && cells[to].nat == cells[from].nat && cells[to].auth == cells[from].auth; to++ {
		}
		m.prepare(t, cells[from])
		m.run(cells[from:to], results[from:to])
	}

	t.Log(matrixTable(cells, results))
	for i, c := range cells {
		t.Run(c.name(), func(t *testing.T) {
			if results[i].err != nil {
				t.Error(results[i].err)
			}
		})
	}
}

// natPorts is the first port of a NAT in scenarios.
const natPorts = 20000

type matrix struct {
	*scenario
	devices []matrixDevice
	masked  bool
}

// matrixDevice has a certificate of each kind.
type matrixDevice struct {
	netns.Device
	name   string
	client *peer.Charon
	files  []peer.Files
}

func newMatrix(t *testing.T) *matrix {
	keys := make([]crypto.Signer, len(matrixAuths))
	m := &matrix{scenario: newScenario(t, options{devices: 2, ipv6: true, patience: 5 * time.Minute, configure: func(s *scenario) {
		for i, a := range matrixAuths {
			keys[i] = a.key(t)
			s.credential(a.name, s.root.gateway(t, keys[i]))
		}
		s.conf.ESP = modern(matrixESP)
		for _, ike := range modern(matrixIKE) {
			s.conf.IKE = append(s.conf.IKE, ike+"-"+strings.Join(modern(matrixGroups), "-"))
		}
		s.conf.Legacy = []string{"sha1_signatures", "hmac_sha1", "modp_1024", "triple_des"}
	}})}
	for i, dev := range m.top.Devices {
		d := matrixDevice{Device: dev, name: fmt.Sprintf("dev%d", i+1)}
		for _, key := range keys {
			d.files = append(d.files, m.root.device(t, d.name, key).files(t, m.root))
		}
		d.client = m.client(t, dev, m.root.device(t, d.name, keys[0]))
		m.devices = append(m.devices, d)
	}
	return m
}

// modern are the names of those that stand in proposals; others are allowed by
// the switches for legacy algorithms.
func modern(list []matrixAlgorithm) []string {
	var names []string
	for _, a := range list {
		if !strings.Contains(a.name, "sha1") && !strings.Contains(a.name, "3des") && !strings.Contains(a.name, "modp1024") {
			names = append(names, a.name)
		}
	}
	return names
}

// prepare makes ready for cells of one kind of authentication.
func (m *matrix) prepare(t *testing.T, c cell) {
	t.Helper()
	if c.nat == 1 && !m.masked {
		if err := m.top.Router.Masquerade(m.ctx, natPorts, natPorts+999); err != nil {
			t.Fatal(err)
		}
		m.masked = true
	}
	m.conf.Certificate, m.conf.Key = matrixAuths[c.auth].name+".crt", matrixAuths[c.auth].name+".key"
	m.reload(t)
}

type cellResult struct {
	took   time.Duration
	signed string // how the gateway signed
	err    error
}

// run has the devices take cells one after the other.
func (m *matrix) run(cells []cell, results []cellResult) {
	next := make(chan int, len(cells))
	for i := range cells {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for _, d := range m.devices {
		wg.Go(func() {
			for i := range next {
				if m.ctx.Err() != nil {
					results[i].err = m.ctx.Err()
					continue
				}
				start := time.Now()
				results[i].signed, results[i].err = m.cell(d, cells[i])
				results[i].took = time.Since(start)
			}
		})
	}
	wg.Wait()
}

// cell runs one cell; the client is disconnected at its end.
func (m *matrix) cell(d matrixDevice, c cell) (signed string, err error) {
	a := matrixAuths[c.auth]
	conn := peer.Connection{
		Files: d.files[c.auth], RemoteID: gatewayID, Auth: a.auth,
		Gateway: netns.GatewayOutside, Local: d.Address,
		IKEProposals: []string{matrixIKE[c.ike].name + "-" + matrixGroups[c.group].name},
		ESPProposals: []string{matrixESP[c.esp].name},
	}
	if matrixOuter[c.outer] == "v6" {
		conn.Gateway, conn.Local = netns.GatewayOutside6, d.Address6
	}
	if matrixInner[c.inner].v4 {
		conn.VirtualIPs = append(conn.VirtualIPs, netip.IPv4Unspecified())
		conn.Remote = append(conn.Remote, netns.Inside)
	}
	if matrixInner[c.inner].v6 {
		conn.VirtualIPs = append(conn.VirtualIPs, netip.IPv6Unspecified())
		conn.Remote = append(conn.Remote, netns.Inside6)
	}
	said := len(d.client.Log())
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nthe client's log:\n%s", err, tail(d.client.Log()[said:], 30))
		}
		if end := d.client.Disconnect(m.ctx); err == nil {
			err = end
		}
	}()
	if err := d.client.Set(m.ctx, peer.Settings{NoSignatureAuth: !a.announced}); err != nil {
		return "", err
	}
	if err := d.client.Load(m.ctx, conn); err != nil {
		return "", err
	}
	if err := d.client.Connect(m.ctx, patience); err != nil {
		return "", fmt.Errorf("%w\ngatewayd:\n%s", err, m.gw.LogTail(15))
	}
	if signed, err = a.check(d.client.Log()[said:]); err != nil {
		return signed, err
	}
	sa, err := m.agreed(d, c)
	if err != nil {
		return signed, err
	}
	return signed, m.content(d, c, sa)
}

// check looks in the client's log for how both ends signed.
func (a matrixAuth) check(log string) (gatewaySigned string, err error) {
	for line := range strings.Lines(log) {
		_, rest, _ := strings.Cut(line, "authentication of '"+gatewayID+"' with ")
		signed, _, ok := strings.Cut(rest, " successful")
		if gatewaySigned = signed; ok {
			break
		}
	}
	if !strings.HasPrefix(gatewaySigned, a.gateway) {
		return gatewaySigned, fmt.Errorf("the gateway signed with %q, want %s", gatewaySigned, a.gateway)
	}
	if !strings.Contains(log, "(myself) with "+a.client) {
		return gatewaySigned, fmt.Errorf("the client didn't sign with %s", a.client)
	}
	return gatewaySigned, nil
}

// agreed compares what client and gateway say of the session.
func (m *matrix) agreed(d matrixDevice, c cell) (peer.SA, error) {
	sa, err := d.client.SA()
	if err != nil {
		return sa, err
	}
	want, child := matrixIKE[c.ike].seen+"/"+matrixGroups[c.group].seen, sa.Children[0]
	if sa.Algorithms != want || child.Algorithms != matrixESP[c.esp].seen {
		return sa, fmt.Errorf("algorithms %s and %s, want %s and %s", sa.Algorithms, child.Algorithms, want, matrixESP[c.esp].seen)
	}
	sessions, err := m.gw.Sessions(m.ctx)
	if err != nil {
		return sa, err
	}
	i := slices.IndexFunc(sessions, func(s gateway.Session) bool { return s.Device == d.name })
	if i < 0 {
		return sa, fmt.Errorf("no session of %s: %+v", d.name, sessions)
	}
	outside := d.Address
	switch {
	case matrixOuter[c.outer] == "v6" && c.nat == 1:
		outside = netns.RouterOutside6
	case matrixOuter[c.outer] == "v6":
		outside = d.Address6
	case c.nat == 1:
		outside = netns.RouterOutside
	}
	s := sessions[i]
	if s.Remote.Addr() != outside || (s.Remote.Port() >= natPorts) != (c.nat == 1) {
		return sa, fmt.Errorf("the gateway sees it at %s, want %s", s.Remote, outside)
	}
	if !sameAddresses(s.VirtualIPs, sa.VirtualIPs) {
		return sa, fmt.Errorf("virtual IPs %v say the gateway, %v the client", s.VirtualIPs, sa.VirtualIPs)
	}
	return sa, nil
}

func sameAddresses(a, b []netip.Addr) bool {
	a, b = slices.SortedFunc(slices.Values(a), netip.Addr.Compare), slices.SortedFunc(slices.Values(b), netip.Addr.Compare)
	return slices.Equal(a, b)
}

// content goes both ways in each family that was asked for.
func (m *matrix) content(d matrixDevice, c cell, sa peer.SA) error {
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
	defer cancel()
	families := 0
	for _, own := range sa.VirtualIPs {
		inside, of := netns.LANHost, pool
		if own.Is6() {
			inside, of = netns.LANHost6, pool6
		}
		if own.Is4() && !matrixInner[c.inner].v4 || own.Is6() && !matrixInner[c.inner].v6 || !of.Contains(own) {
			return fmt.Errorf("virtual IPs %v, want those of %s", sa.VirtualIPs, matrixInner[c.inner].name)
		}
		families++
		if _, err := traffic.Ping(ctx, d.Namespace, own, inside, 1000); err != nil {
			return err
		}
		up, err := traffic.TCP(ctx, d.Namespace, m.top.LAN, inside, 256<<10)
		if err != nil {
			return fmt.Errorf("up: %w", err)
		}
		if up.From != own {
			return fmt.Errorf("the host inside saw %s, want %s", up.From, own)
		}
		if _, err := traffic.TCP(ctx, m.top.LAN, d.Namespace, own, 256<<10); err != nil {
			return fmt.Errorf("down: %w", err)
		}
	}
	if want := 1 + c.inner/2; families != want {
		return fmt.Errorf("virtual IPs %v, want %d", sa.VirtualIPs, want)
	}
	return nil
}

func (c cell) values() []string {
	return []string{
		matrixAuths[c.auth].name, matrixIKE[c.ike].name, matrixGroups[c.group].name, matrixESP[c.esp].name,
		matrixInner[c.inner].name, matrixOuter[c.outer], matrixNAT[c.nat],
	}
}

func (c cell) name() string { return strings.Join(c.values(), ",") }

func matrixTable(cells []cell, results []cellResult) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nAUTH\tIKE\tGROUP\tESP\tINNER\tOUTER\tNAT\tGATEWAY SIGNED\tSECONDS\tRESULT")
	good := 0
	for i, c := range cells {
		verdict := "ok"
		if results[i].err == nil {
			good++
		} else if verdict = "FAILED"; errors.Is(results[i].err, context.DeadlineExceeded) {
			verdict = "FAILED, time is up"
		}
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\n", strings.Join(c.values(), "\t"), results[i].signed, results[i].took.Seconds(), verdict)
	}
	w.Flush() // into memory
	fmt.Fprintf(&b, "%d of %d cells ok\n", good, len(cells))
	return b.String()
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
