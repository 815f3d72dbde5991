package main

import (
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/control/dhcp"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/lease"
	"github.com/roamgate/roamgate/control/session"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/metrics"
	"github.com/roamgate/roamgate/gatewayd/pki"
	"github.com/roamgate/roamgate/gatewayd/records"
	"github.com/roamgate/roamgate/gatewayd/ticketkeys"
)

type fakeSessions struct {
	infos   []session.Info
	stats   session.Stats
	updates []session.Settings
	refuse  error
	killed  []session.Info
	sentTo  string
	// rechecked: empty ones are all.
	rechecked []session.Concerned
}

func (f *fakeSessions) Redirect(match func(session.Info) bool, to string) int {
	f.sentTo = to
	return f.Kill(match)
}

func (f *fakeSessions) Sessions() []session.Info { return f.infos }
func (f *fakeSessions) Stats() session.Stats     { return f.stats }
func (f *fakeSessions) Kill(match func(session.Info) bool) int {
	f.killed = nil
	for _, i := range f.infos {
		if match(i) {
			f.killed = append(f.killed, i)
		}
	}
	return len(f.killed)
}

func (f *fakeSessions) Session(device string) (session.Info, bool) {
	for _, i := range f.infos {
		if i.Device == device {
			return i, true
		}
	}
	return session.Info{}, false
}

func (f *fakeSessions) End(device string, id lease.SessionID) bool {
	return f.Kill(func(i session.Info) bool { return i.Device == device && i.ID == id }) > 0
}

func (f *fakeSessions) Recheck(c session.Concerned) { f.rechecked = append(f.rechecked, c) }
func (f *fakeSessions) RecheckAll()                 { f.rechecked = append(f.rechecked, session.Concerned{}) }

func (f *fakeSessions) Update(s session.Settings) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.updates = append(f.updates, s)
	return nil
}

type fakeLeases struct{ configs []lease.Config }

func (f *fakeLeases) List() []lease.Lease {
	return []lease.Lease{
		{Device: "phone-1", Address: netip.MustParseAddr("10.9.0.1"), Live: true, Session: 0xa1},
		{Device: "phone-2", Address: netip.MustParseAddr("10.9.0.2")},
	}
}

func (f *fakeLeases) Release(device string) error {
	if device == "phone-1" {
		return lease.ErrInUse
	}
	return lease.ErrUnknownDevice
}

func (f *fakeLeases) Stats() lease.Stats {
	return lease.Stats{Assigned: 2, Live: 1, Exhausted: 4}
}

func (f *fakeLeases) Reconfigure(c lease.Config) error {
	f.configs = append(f.configs, c)
	return nil
}

type fakeForwarder struct {
	children []dataplane.ChildCounters
	drops    dataplane.Drops
	stuck    chan struct{}
}

func (f *fakeForwarder) Features() dataplane.Features {
	return dataplane.Features{Name: "fake", Algorithms: esp.Supported()}
}
func (f *fakeForwarder) Drops() dataplane.Drops { return f.drops }
func (f *fakeForwarder) Counters(yield func(dataplane.ChildCounters) bool) {
	if f.stuck != nil {
		<-f.stuck
	}
	for _, c := range f.children {
		if !yield(c) {
			return
		}
	}
}

type fakeRoutes struct {
	pools  [][]netip.Prefix
	refuse error
}

func (f *fakeRoutes) add(pools []netip.Prefix) error {
	if f.refuse == nil {
		f.pools = append(f.pools, pools)
	}
	return f.refuse
}

type fakeInforms struct {
	told    []dhcp.Config
	figures dhcp.Stats
}

func (f *fakeInforms) use(c dhcp.Config, _ []netip.Prefix) error {
	f.told = append(f.told, c)
	return nil
}

func (f *fakeInforms) stats() dhcp.Stats { return f.figures }

type fakeLists struct {
	groups  [][]acl.Group
	figures acl.Counters
}

func (f *fakeLists) SetGroups(g []acl.Group) error {
	f.groups = append(f.groups, g)
	return nil
}

func (f *fakeLists) how() string            { return "nothing" }
func (f *fakeLists) counters() acl.Counters { return f.figures }

// rig is a gateway on fakes with a configuration and a PKI on disk.
type rig struct {
	*gateway
	sessions *fakeSessions
	leases   *fakeLeases
	backend  *fakeForwarder
	routes   *fakeRoutes
	inform   *fakeInforms
	lists    *fakeLists
	file     string
	stopping chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	f := &initFlags{
		external: "eth0", internal: "eth1", address: netip.MustParseAddr("203.0.113.1"), id: "vpn.example.com",
		pool: netip.MustParsePrefix("10.9.0.0/16"), networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
	}
	result, err := pki.Setup(time.Now(), pki.SetupOptions{Dir: filepath.Join(dir, "pki"), ConfigDir: dir, DNSNames: []string{f.id}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gatewayd.yaml")
	text, err := f.render(&staging{final: initPaths{file, filepath.Join(dir, "pki"), "state", "run"}}, result)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	built, err := cfg.Build(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{sessions: &fakeSessions{}, leases: &fakeLeases{}, backend: &fakeForwarder{}, routes: &fakeRoutes{}, inform: &fakeInforms{}, lists: &fakeLists{}, file: file, stopping: make(chan struct{})}
	keys, err := ticketkeys.Open(filepath.Join(t.TempDir(), "ticket.keys"), time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.gateway = &gateway{
		forward: &forwarding{}, tickets: keys, ring: keys.Ring(),
		sessions: r.sessions, leases: r.leases, backend: r.backend,
		lists: r.lists, records: records.New(slog.New(slog.DiscardHandler)), routes: r.routes, inform: r.inform,
		logger: slog.New(slog.DiscardHandler), level: new(slog.LevelVar), stopping: r.stopping, steps: &steps{},
		stop: func() { close(r.stopping) }, file: cfg, config: cfg, built: built, loaded: time.Unix(1700000000, 0),
	}
	r.gateway.up.Store(true)
	t.Cleanup(r.records.Close)
	return r
}

func (r *rig) edit(t *testing.T, edits ...string) {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	after := strings.NewReplacer(edits...).Replace(string(text))
	if after == string(text) {
		t.Fatalf("edit %q does not fit", edits)
	}
	if err := os.WriteFile(r.file, []byte(after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What a session is, for people: all its Child SAs, who made the client, and
// what it uses that it shouldn't.
func TestSessionsForPeople(t *testing.T) {
	r := newRig(t)
	a := netip.MustParseAddr
	r.sessions.infos = []session.Info{{
		ID: 0xa1, Summary: ike.Summary{Device: "phone-1", ResponderSPI: 0xb2, Client: "windows", Legacy: []string{"modp_1024"}},
		Children: []session.Child{
			{Inbound: 0x100, Outbound: 0x200, ESP: "AES_GCM_16_128", LocalTS: []dataplane.Selector{{First: a("10.2.0.0"), Last: a("10.2.0.255"), LastPort: 65535}}},
			{Inbound: 0x101},
		},
		Traffic: session.Traffic{BytesIn: 5},
	}, {ID: 0xa2}}
	list := r.Sessions()
	s := list[0]
	if s.ID != "00000000000000a1" || s.ResponderSPI != "00000000000000b2" || s.Client != "windows" || len(s.Legacy) != 1 || s.BytesIn != 5 {
		t.Errorf("%+v", s)
	}
	if len(s.Children) != 2 || s.Children[0].InboundSPI != "00000100" || s.Children[0].LocalTS[0] != "10.2.0.0/24" || s.Children[1].InboundSPI != "00000101" {
		t.Errorf("%+v", s.Children)
	}
	if list[1].Children == nil {
		t.Error("a childless session has no list, JSON would say null")
	}
}

func TestKill(t *testing.T) {
	r := newRig(t)
	r.sessions.infos = []session.Info{
		{ID: 0xa1, Summary: ike.Summary{Device: "phone-1"}},
		{ID: 0xa2, Summary: ike.Summary{Device: "phone-2"}},
	}
	for _, tt := range []struct {
		kill local.Kill
		want int
	}{
		{local.Kill{Device: "phone-1"}, 1},
		{local.Kill{ID: "00000000000000a2"}, 1},
		{local.Kill{All: true}, 2},
		{local.Kill{Device: "phone"}, 0},
		{local.Kill{ID: "a2"}, 0},
		{local.Kill{}, 0},
	} {
		got, err := r.Kill(tt.kill)
		if got.Sessions != tt.want || errors.Is(err, local.ErrNotFound) != (tt.want == 0) {
			t.Errorf("%+v: %d sessions, %v", tt.kill, got.Sessions, err)
		}
	}
}

func TestRedirect(t *testing.T) {
	r := newRig(t)
	r.sessions.infos = []session.Info{{ID: 0xa1, Summary: ike.Summary{Device: "phone-1"}}, {ID: 0xa2}}
	for _, to := range []string{"", "vpn 2", "0.0.0.0", "ff02::1", "vpn2.example.com."} {
		if _, err := r.Redirect(local.Redirect{All: true, To: to}); err == nil || r.sessions.sentTo != "" {
			t.Errorf("sent to %q: %v", to, err)
		}
	}
	for _, tt := range []struct {
		to   local.Redirect
		want int
	}{
		{local.Redirect{Device: "phone-1", To: "vpn2.example.com"}, 1},
		{local.Redirect{ID: "00000000000000a2", To: "192.0.2.2"}, 1},
		{local.Redirect{All: true, To: "2001:db8::2"}, 2},
		{local.Redirect{Device: "phone-2", To: "vpn2.example.com"}, 0},
	} {
		got, err := r.Redirect(tt.to)
		if got.Sessions != tt.want || errors.Is(err, local.ErrNotFound) != (tt.want == 0) || r.sessions.sentTo != tt.to.To {
			t.Errorf("%+v: %d sessions, %v, sent to %q", tt.to, got.Sessions, err, r.sessions.sentTo)
		}
	}
}

func TestLeasesForPeople(t *testing.T) {
	r := newRig(t)
	list := r.Leases()
	if list[0].State != "live" || list[0].Session != "00000000000000a1" || list[1].State != "idle" || list[1].Session != "" {
		t.Errorf("%+v", list)
	}
	if err := r.Release("phone-1"); !errors.Is(err, local.ErrConflict) {
		t.Errorf("release of a live lease: %v", err)
	}
	if err := r.Release("nobody"); !errors.Is(err, local.ErrNotFound) {
		t.Errorf("release of nobody's lease: %v", err)
	}
}

// Every reason of the data plane is listed by its name, also those at zero.
func TestDropsNameEveryReason(t *testing.T) {
	r := newRig(t)
	r.backend.drops[dataplane.ReasonReplay] = 5
	r.sessions.stats.Drops = map[string]uint64{"cookie_required": 7}
	r.inform.figures.Drops[dhcp.ReasonType] = 9
	found := map[string]uint64{}
	for _, d := range r.Drops() {
		found[d.Layer+" "+d.Reason] = d.Count
	}
	for reason := range dataplane.Reason(dataplane.NumReasons) {
		if _, ok := found["dataplane "+reason.String()]; !ok {
			t.Errorf("%v is not listed", reason)
		}
	}
	if found["dataplane replay"] != 5 || found["ike cookie_required"] != 7 || found["dhcp type"] != 9 {
		t.Errorf("%v", found)
	}
}

func TestSnapshot(t *testing.T) {
	r := newRig(t)
	r.sessions.stats = session.Stats{
		Established: 1, EstablishedTotal: 3, Closed: map[ike.CloseReason]uint64{ike.CloseKilled: 2},
		RekeyedIKE: 5, Moved: 6, Legacy: map[string]uint64{"modp_1024": 7}, Traffic: session.Traffic{BytesIn: 8},
		Handshake: session.Histogram{Bounds: []float64{.1, 1}, Counts: []uint64{2, 1, 4}, Sum: 9},
	}
	want := `
# HELP gatewayd_handshake_duration_seconds From the first message to the established IKE SA.
# TYPE gatewayd_handshake_duration_seconds histogram
gatewayd_handshake_duration_seconds_bucket{le="0.1"} 2
gatewayd_handshake_duration_seconds_bucket{le="1"} 3
gatewayd_handshake_duration_seconds_bucket{le="+Inf"} 7
gatewayd_handshake_duration_seconds_sum 9
gatewayd_handshake_duration_seconds_count 7
# HELP gatewayd_closed_total IKE SAs that ended, by reason.
# TYPE gatewayd_closed_total counter
gatewayd_closed_total{reason="killed"} 2
# HELP gatewayd_legacy_total Sessions that used a legacy algorithm, by algorithm.
# TYPE gatewayd_legacy_total counter
gatewayd_legacy_total{algorithm="3des"} 0
gatewayd_legacy_total{algorithm="hmac_sha1"} 0
gatewayd_legacy_total{algorithm="modp_1024"} 7
gatewayd_legacy_total{algorithm="sha1_signature"} 0
# HELP gatewayd_ike_rekeyed_total IKE SAs that another one took over from.
# TYPE gatewayd_ike_rekeyed_total counter
gatewayd_ike_rekeyed_total 5
# HELP gatewayd_session_moves_total Sessions that went on from another address.
# TYPE gatewayd_session_moves_total counter
gatewayd_session_moves_total 6
# HELP gatewayd_bytes_total Bytes of inner packets; in: from devices.
# TYPE gatewayd_bytes_total counter
gatewayd_bytes_total{direction="in"} 8
gatewayd_bytes_total{direction="out"} 0
# HELP gatewayd_lease_exhausted_total Requests for an address that found none free.
# TYPE gatewayd_lease_exhausted_total counter
gatewayd_lease_exhausted_total 4
`
	err := testutil.CollectAndCompare(metrics.Collector(r.snapshot), strings.NewReader(want),
		"gatewayd_handshake_duration_seconds", "gatewayd_closed_total", "gatewayd_lease_exhausted_total",
		"gatewayd_legacy_total", "gatewayd_ike_rekeyed_total", "gatewayd_session_moves_total", "gatewayd_bytes_total")
	if err != nil {
		t.Error(err)
	}
	if end := r.snapshot().RevocationExpires; math.Abs(end-float64(time.Now().Unix())) > 400*24*3600 || end == 0 {
		t.Errorf("revocation list expires at %v", end)
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

// Servers are ready when all roles listen.
func TestServersStart(t *testing.T) {
	if state := new(servers).state(t.Context()); state != "starting" {
		t.Errorf("%q before anybody listens, want starting", state)
	}
}

// /readyz is false until all is up, and from when the end begins; the metrics stay.
func TestMonitoring(t *testing.T) {
	r := newRig(t)
	h := r.monitoring(metrics.Registry(metrics.Collector(r.snapshot), "test", "test"))
	if code, body := get(t, h, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s", code, body)
	}
	r.up.Store(false)
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("readyz while starting: %d %s", code, body)
	}
	r.up.Store(true)
	if code, body := get(t, h, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz: %d %s", code, body)
	}
	r.stop()
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Errorf("readyz while stopping: %d %s", code, body)
	}
	if code, body := get(t, h, "/metrics"); code != http.StatusOK || !strings.Contains(body, "gatewayd_sessions 0") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, _ := get(t, h, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("pprof on the network: %d", code)
	}
}

// A loop that is stuck makes the gateway unhealthy, and healthy again when it
// goes on; nobody waits longer than the timeout.
func TestStuckLoop(t *testing.T) {
	r := newRig(t)
	stuck := make(chan struct{})
	r.backend.stuck = stuck
	h := &health{check: r.loops}
	for range 3 {
		if h.ask(time.Millisecond) == nil {
			t.Fatal("healthy with a stuck loop")
		}
	}
	close(stuck)
	if err := h.ask(time.Minute); err != nil {
		t.Errorf("still %v", err)
	}
}

func TestSelectors(t *testing.T) {
	a := netip.MustParseAddr
	for _, tt := range []struct {
		in   dataplane.Selector
		want string
	}{
		{dataplane.Selector{First: a("10.2.0.0"), Last: a("10.2.0.255"), LastPort: 65535}, "10.2.0.0/24"},
		{dataplane.Selector{First: a("0.0.0.0"), Last: a("255.255.255.255"), LastPort: 65535}, "0.0.0.0/0"},
		{dataplane.Selector{First: a("10.9.0.1"), Last: a("10.9.0.1"), LastPort: 65535}, "10.9.0.1/32"},
		{dataplane.Selector{First: a("10.2.0.5"), Last: a("10.2.0.9"), LastPort: 65535}, "10.2.0.5-10.2.0.9"},
		{dataplane.Selector{Protocol: 6, First: a("2001:db8::"), Last: a("2001:db8::ffff"), FirstPort: 443, LastPort: 443}, "2001:db8::/112 protocol 6 ports 443-443"},
	} {
		if got := selectors([]dataplane.Selector{tt.in})[0]; got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
