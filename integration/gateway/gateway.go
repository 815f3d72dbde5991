// Package gateway drives gatewayd as an administrator does: a configuration
// file, the program, its commands and its metrics, inside a network namespace.
// It imports nothing of this project but integration/netns, so that what it
// reads is what users get.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Gateway is a gatewayd with its files in one folder. It may be started again
// after it ended.
type Gateway struct {
	role    string
	program string
	config  string
	log     string
	metrics netip.AddrPort
	ns      *netns.Namespace
	process *netns.Process
}

// patience with one question to the program, on a machine that is busy with much
// else.
const patience = 30 * time.Second

// New describes a gateway; program is gatewayd, config its file. The log goes
// beside the configuration. Metrics are asked where the configuration says.
func New(ns *netns.Namespace, program, config string, metrics netip.AddrPort) *Gateway {
	return &Gateway{
		role:    "gateway",
		program: program,
		config:  config,
		log:     filepath.Join(filepath.Dir(config), "gatewayd.log"),
		metrics: metrics,
		ns:      ns,
	}
}

// NewEnrollment describes an enrollment server in the same way.
func NewEnrollment(ns *netns.Namespace, program, config string, metrics netip.AddrPort) *Gateway {
	g := New(ns, program, config, metrics)
	g.role, g.log = "enrollment", filepath.Join(filepath.Dir(config), "enrollment.log")
	return g
}

// Start runs `gatewayd run` with the role and waits until it says that it is
// ready.
func (g *Gateway) Start(ctx context.Context) error {
	out, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(g.program, "run", g.role, "--config", g.config)
	cmd.Stdout, cmd.Stderr = out, out
	if g.process, err = g.ns.Start(cmd); err != nil {
		return err
	}
	if err := g.waitReady(ctx); err != nil {
		g.process.Kill()
		return fmt.Errorf("starting gatewayd: %w\n%s", err, g.LogTail(30))
	}
	return nil
}

func (g *Gateway) waitReady(ctx context.Context) error {
	for {
		if _, err := g.get(ctx, "/readyz"); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		case <-g.process.Done():
			return fmt.Errorf("it ended: %w", g.process.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// PID of the running program.
func (g *Gateway) PID() int { return g.process.PID() }

// Done is closed when the program has ended.
func (g *Gateway) Done() <-chan struct{} { return g.process.Done() }

// Kill ends the program at once, as a crash does.
func (g *Gateway) Kill() { g.process.Kill() }

// Terminate sends SIGTERM and returns how the program ended.
func (g *Gateway) Terminate(grace time.Duration) error { return g.process.Stop(grace) }

// Command runs a gatewayd command against the running program and returns its
// standard output; the error holds what it said.
func (g *Gateway) Command(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := g.ns.Run(ctx, exec.Command(g.program, append(args, "--config", g.config)...))
	return string(out), err
}

// Session as `gatewayd session list -o json` tells it.
type Session struct {
	ID         string         `json:"id"`
	Device     string         `json:"device"`
	Group      string         `json:"group"`
	Remote     netip.AddrPort `json:"remote"`
	VirtualIPs []netip.Addr   `json:"virtual_ips"`
	IKE        string         `json:"ike"`
	Auth       string         `json:"auth"`
	Resumed    bool           `json:"resumed"`
	Children   []Child        `json:"children"`
	BytesIn    uint64         `json:"bytes_in"`
	BytesOut   uint64         `json:"bytes_out"`
}

// Child SA of a Session.
type Child struct {
	ESP        string `json:"esp"`
	InboundSPI string `json:"inbound_spi"`
}

// Lease as `gatewayd lease list -o json` tells it.
type Lease struct {
	Device  string     `json:"device"`
	Address netip.Addr `json:"address"`
	State   string     `json:"state"`
}

// Drop as `gatewayd drops -o json` tells it.
type Drop struct {
	Layer  string `json:"layer"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Status as `gatewayd status -o json` tells it.
type Status struct {
	State     string `json:"state"`
	Backend   string `json:"backend"`
	Interface string `json:"interface"`
	MTU       int    `json:"mtu"`
	Sessions  int    `json:"sessions"`
	Dropped   uint64 `json:"dropped"`
	// NeedRestart are keys that a reload didn't change.
	NeedRestart []string `json:"need_restart"`
}

// Status of the gateway.
func (g *Gateway) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, g, "status")
}

// Sessions that are established.
func (g *Gateway) Sessions(ctx context.Context) ([]Session, error) {
	return ask[[]Session](ctx, g, "session", "list")
}

// Leases, live or idle.
func (g *Gateway) Leases(ctx context.Context) ([]Lease, error) {
	return ask[[]Lease](ctx, g, "lease", "list")
}

// Drops by layer and reason.
func (g *Gateway) Drops(ctx context.Context) ([]Drop, error) {
	return ask[[]Drop](ctx, g, "drops")
}

// Dropped is the count of one reason, 0 where it isn't listed.
func (g *Gateway) Dropped(ctx context.Context, layer, reason string) (uint64, error) {
	drops, err := g.Drops(ctx)
	for _, d := range drops {
		if d.Layer == layer && d.Reason == reason {
			return d.Count, err
		}
	}
	return 0, err
}

func ask[T any](ctx context.Context, g *Gateway, command ...string) (T, error) {
	var answer T
	out, err := g.Command(ctx, append(command, "-o", "json")...)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return answer, fmt.Errorf("gatewayd %s: %w in %q", strings.Join(command, " "), err, out)
	}
	return answer, nil
}

// Metrics in Prometheus' text form.
func (g *Gateway) Metrics(ctx context.Context) (string, error) { return g.get(ctx, "/metrics") }

// get asks the metrics listener from inside the namespace.
func (g *Gateway) get(ctx context.Context, path string) (string, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return g.ns.Dial(g.metrics, patience)
		},
	}}
	body, err := fetch(ctx, &client, "http://"+g.metrics.String()+path)
	return string(body), err
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, response.Status, body)
	}
	return body, err
}

// HeapProfile has the program collect its garbage and returns what its heap
// holds then, as pprof reads it. It needs Config.PProf.
func (g *Gateway) HeapProfile(ctx context.Context) ([]byte, error) { return g.heap(ctx, "") }

// LiveHeap is how many octets the program's heap holds after its garbage was
// collected. It needs Config.PProf.
func (g *Gateway) LiveHeap(ctx context.Context) (uint64, error) {
	// A pool gives what it has to the second collection, a cleanup to the one after.
	for range 2 {
		if _, err := g.heap(ctx, ""); err != nil {
			return 0, err
		}
	}
	text, err := g.heap(ctx, "&debug=1") // with the runtime's figures right after it
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "# HeapAlloc = "); ok {
			return strconv.ParseUint(n, 10, 64)
		}
	}
	return 0, errors.New("a heap profile without HeapAlloc")
}

func (g *Gateway) heap(ctx context.Context, more string) ([]byte, error) {
	socket := filepath.Join(filepath.Dir(g.config), "run", "gateway.sock")
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return fetch(ctx, &client, "http://gatewayd/debug/pprof/heap?gc=1"+more)
}

// Log is what the program wrote, over all its starts.
func (g *Gateway) Log() string {
	b, err := os.ReadFile(g.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogTail is the last lines of the log.
func (g *Gateway) LogTail(lines int) string {
	all := strings.Split(strings.TrimSpace(g.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
