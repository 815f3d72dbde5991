package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// cli runs a command line as main does.
func cli(t *testing.T, line ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = execute(line, &out, &errOut)
	return code, out.String(), errOut.String()
}

// fakeGateway is a local.Source with one session.
type fakeGateway struct {
	reloadErr error
	killed    []local.Kill
	forgotten int
}

func (f *fakeGateway) Status() local.Status {
	return local.Status{State: "ready", Sessions: 1, RedirectTo: "vpn2.example.com",
		Guard:  local.Guard{Mode: "generic", Reason: "native XDP: operation not supported", Pinned: true, Shield: true},
		Leases: local.LeaseCounts{Capacity: 254, CapacityIPv6: math.MaxUint64}, NeedRestart: []string{"gateway.external.port"}, Warnings: []string{"a list is due"}}
}

func (f *fakeGateway) Sessions() []local.Session {
	return []local.Session{{
		ID: "00a1b2c3d4e5f607", Device: "phone-1", VirtualIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Remote: netip.MustParseAddrPort("10.1.0.2:4500"), IKE: "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519",
		Client: "windows", Legacy: []string{"hmac_sha1", "modp_1024"},
		Children: []local.Child{
			{InboundSPI: "00000100", OutboundSPI: "c0ffee00", ESP: "AES_CBC_256", LocalTS: []string{"10.2.0.0/24"}, RemoteTS: []string{"10.9.0.1"}},
			{InboundSPI: "00000101", ESP: "AES_CBC_128", LocalTS: []string{"10.3.0.0/24"}, RemoteTS: []string{"10.9.0.1"}},
		}, Established: time.Now().Add(-time.Minute),
		Traffic: local.Traffic{BytesIn: 1536},
	}}
}

func (f *fakeGateway) Kill(k local.Kill) (local.Killed, error) {
	if k.Device == "nobody" {
		return local.Killed{}, local.ErrNotFound
	}
	f.killed = append(f.killed, k)
	return local.Killed{Sessions: 1}, nil
}

func (f *fakeGateway) Redirect(r local.Redirect) (local.Redirected, error) {
	if r.Device == "nobody" {
		return local.Redirected{}, local.ErrNotFound
	}
	return local.Redirected{Sessions: 3}, nil
}

func (f *fakeGateway) Leases() []local.Lease {
	return []local.Lease{{Device: "phone-1", Address: netip.MustParseAddr("10.9.0.1"), State: "live"}}
}

func (f *fakeGateway) Release(device string) error {
	switch device {
	case "phone-1":
		return local.ErrConflict
	case "nobody":
		return local.ErrNotFound
	}
	return nil
}

func (f *fakeGateway) Drops() []local.Drop {
	return []local.Drop{{Layer: "dataplane", Reason: "replay", Count: 3}, {Layer: "dataplane", Reason: "ecn"}}
}

func (f *fakeGateway) WatchDrops(context.Context) (<-chan local.DroppedPacket, error) {
	ch := make(chan local.DroppedPacket, 2)
	ch <- local.DroppedPacket{Reason: "esp_unknown_spi", Remote: netip.MustParseAddrPort("192.0.2.7:4500"), Local: netip.MustParseAddrPort("203.0.113.1:4500"), Length: 106, Data: "0200"}
	ch <- local.DroppedPacket{Reason: "fragment_limited", Remote: netip.MustParseAddrPort("192.0.2.7:0"), Length: 99}
	close(ch)
	return ch, nil
}

func (f *fakeGateway) ForgetVersions() error { f.forgotten++; return nil }

func (f *fakeGateway) Reload() (local.Reloaded, error) { return local.Reloaded{}, f.reloadErr }

func (f *fakeGateway) Stop(local.Stop) (<-chan local.Progress, error) {
	var s steps
	s.tell(local.Progress{Step: "deleting sessions", Sessions: 2})
	s.tell(local.Progress{Step: "stopped", Done: true})
	return s.follow(), nil
}

// serve puts a fake gateway behind a socket and returns the flag for it.
func serve(t *testing.T) (*fakeGateway, string) {
	t.Helper()
	f := &fakeGateway{}
	path := filepath.Join(t.TempDir(), "s")
	server, err := local.Listen(local.Config{Path: path, Access: local.Access{UID: uint32(os.Getuid())}, Source: f, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(t.Context()) })
	return f, "--socket=" + path
}

// Each command that asks the gateway prints a table, JSON and YAML.
func TestCommandsPrint(t *testing.T) {
	_, socket := serve(t)
	tests := []struct {
		line  []string
		table []string
	}{
		{[]string{"status"}, []string{"state", "ready", "gateway.external.port", "a list is due", "redirected to vpn2.example.com", "generic XDP, shield, stays in force over a restart (native XDP: operation not supported)", "254 IPv4 addresses, more IPv6 addresses than can be counted"}},
		{[]string{"session", "list"}, []string{"DEVICE", "phone-1", "10.9.0.1", "1.5 KiB", "00a1b2c3d4e5f607", "windows", "hmac_sha1,modp_1024"}},
		{[]string{"session", "show", "Phone-1"}, []string{"AES_GCM_16_128", "10.2.0.0/24 === 10.9.0.1", "10.3.0.0/24 === 10.9.0.1", "00000101 in", "hmac_sha1, modp_1024", "windows"}},
		{[]string{"session", "show", "00A1B2C3D4E5F607"}, []string{"phone-1"}},
		{[]string{"lease", "list"}, []string{"10.9.0.1", "phone-1", "live"}},
		{[]string{"drops"}, []string{"dataplane", "replay", "3"}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.line, " "), func(t *testing.T) {
			code, out, errOut := cli(t, append(tt.line, socket)...)
			if code != exitOK {
				t.Fatalf("exit code %d: %s", code, errOut)
			}
			for _, want := range tt.table {
				if !strings.Contains(out, want) {
					t.Errorf("table lacks %q:\n%s", want, out)
				}
			}
			code, out, _ = cli(t, append(tt.line, socket, "-o", "json")...)
			if code != exitOK || !json.Valid([]byte(out)) {
				t.Errorf("JSON, exit code %d:\n%s", code, out)
			}
			var tree any
			if code, out, _ = cli(t, append(tt.line, socket, "-o", "yaml")...); code != exitOK || yaml.Unmarshal([]byte(out), &tree) != nil {
				t.Errorf("YAML, exit code %d:\n%s", code, out)
			}
			if code, _, errOut := cli(t, append(tt.line, socket, "-o", "xml")...); code != exitUsage || !strings.Contains(errOut, "table, json, yaml") {
				t.Errorf("xml: exit code %d: %s", code, errOut)
			}
		})
	}
}

func TestDropsAll(t *testing.T) {
	_, socket := serve(t)
	if _, out, _ := cli(t, "drops", socket); strings.Contains(out, "ecn") {
		t.Errorf("a reason that never happened is listed:\n%s", out)
	}
	if _, out, _ := cli(t, "drops", "--all", socket); !strings.Contains(out, "ecn") {
		t.Errorf("--all leaves a reason out:\n%s", out)
	}
}

// Exit codes: 0 ok, 1 failed, 2 wrong usage; errors say what to do.
func TestExitCodes(t *testing.T) {
	f, socket := serve(t)
	f.reloadErr = errors.Join(errors.New("gatewayd.yaml:3: one"), errors.New("gatewayd.yaml:4: two"))
	nowhere := "--socket=" + filepath.Join(t.TempDir(), "none")
	tests := []struct {
		line []string
		code int
		want string
	}{
		{[]string{"session", "kill", "phone-1", socket}, exitOK, "1 sessions"},
		{[]string{"session", "kill", "--all", socket}, exitOK, "1 sessions"},
		{[]string{"session", "kill", "nobody", socket}, exitFailed, "gatewayd session list"},
		{[]string{"session", "redirect", "phone-1", "--to", "vpn2.example.com", socket}, exitOK, "sessions asked to go to vpn2.example.com: 3"},
		{[]string{"session", "redirect", "--all", socket}, exitUsage, "expected --to GATEWAY"},
		{[]string{"session", "redirect", "--to", "a", socket}, exitUsage, "expected one of"},
		{[]string{"session", "redirect", "nobody", "--to", "a", socket}, exitFailed, "gatewayd session list"},
		{[]string{"session", "kill", socket}, exitUsage, "expected one of"},
		{[]string{"session", "kill", "phone-1", "--all", socket}, exitUsage, "expected one of"},
		{[]string{"session", "show", socket}, exitUsage, "accepts 1 arg"},
		{[]string{"session", "show", "nobody", socket}, exitFailed, "no session of"},
		{[]string{"session", "lst"}, exitUsage, "unknown command"},
		{[]string{"nonsense"}, exitUsage, "unknown command"},
		{[]string{"status", "--nonsense"}, exitUsage, "unknown flag"},
		{[]string{"pki", "nonsense"}, exitUsage, "unknown command"},
		{[]string{"lease", "release", "phone-1", socket}, exitFailed, "gatewayd session kill phone-1"},
		{[]string{"lease", "release", "nobody", socket}, exitFailed, "has no lease"},
		{[]string{"lease", "release", "phone-2", socket}, exitOK, "is free"},
		{[]string{"gateway", "forget-versions", socket}, exitOK, "forgotten; what is in force stays"},
		{[]string{"reload", socket}, exitFailed, "nothing has changed:\n  gatewayd.yaml:3: one\n  gatewayd.yaml:4: two"},
		{[]string{"stop", socket}, exitOK, "deleting sessions: 2 sessions left\nstopped"},
		{[]string{"status", nowhere}, exitFailed, "gatewayd run gateway"},
		{[]string{"version"}, exitOK, "gatewayd "},
		{[]string{"config", "check", "/nonexistent.yaml"}, exitFailed, "no such file"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.line[:min(len(tt.line), 3)], " "), func(t *testing.T) {
			code, out, errOut := cli(t, tt.line...)
			if code != tt.code || !strings.Contains(out+errOut, tt.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, tt.code, tt.want, out, errOut)
			}
		})
	}
}

// Every command explains itself, with an example.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		if !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(rootCommand())
}

func TestConfigCommands(t *testing.T) {
	code, sample, _ := cli(t, "config", "sample")
	if code != exitOK || sample != string(config.Sample) {
		t.Fatalf("sample: exit code %d", code)
	}
	file := filepath.Join(t.TempDir(), "gatewayd.yaml")
	if err := os.WriteFile(file, []byte(sample), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"yaml", "json"} {
		code, out, errOut := cli(t, "config", "show", file, "-o", format)
		if code != exitOK {
			t.Fatalf("show -o %s: %s", format, errOut)
		}
		again := filepath.Join(t.TempDir(), "again.yaml")
		if err := os.WriteFile(again, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, _, errOut := cli(t, "config", "show", again); code != exitOK {
			t.Errorf("show -o %s can't be read back: %s", format, errOut)
		}
	}
	// The sample names files that aren't there: check says so.
	if code, _, errOut := cli(t, "config", "check", "--config", file); code != exitFailed || !strings.Contains(errOut, "gateway.identity.credentials[0].certificate: got ") {
		t.Errorf("check: exit code %d\n%s", code, errOut)
	}
}

// Whatever ESP algorithm the configuration takes, the data plane can do, legacy
// ones too, and it leaves room for inner packets, over IPv6 as well.
func TestEveryESPProposalForwards(t *testing.T) {
	for _, encryption := range []string{
		"aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes192-sha384", "aes256-sha512",
		"aes128-aes192-aes256-sha256-sha384-sha512",
	} {
		for _, outer := range []struct {
			more    []netip.Addr
			low, up int
		}{{nil, 1380, 1450}, {[]netip.Addr{netip.MustParseAddr("2001:db8::1")}, 1360, 1430}} {
			c := config.Default()
			if err := c.Gateway.ESP.Proposals[0].UnmarshalText([]byte(encryption)); err != nil {
				t.Fatal(err)
			}
			c.Gateway.ESP.Proposals = c.Gateway.ESP.Proposals[:1]
			c.Gateway.External.Address = netip.MustParseAddr("203.0.113.1")
			c.Gateway.External.MoreAddresses = outer.more
			mtu, err := innerMTU(c)
			if err != nil || mtu < outer.low || mtu > outer.up {
				t.Errorf("%s: MTU %d, %v", encryption, mtu, err)
			}
			c.Gateway.Legacy = config.Legacy{HMACSHA1: true, TripleDES: true}
			if with, err := innerMTU(c); err != nil || with > mtu {
				t.Errorf("%s and legacy: MTU %d, %v", encryption, with, err)
			}
		}
	}
}

// A sample of dropped packets comes as it is told, a line each.
func TestWatchDrops(t *testing.T) {
	_, socket := serve(t)
	code, out, errOut := cli(t, "drops", "watch", socket)
	if code != exitOK || errOut != "" {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "esp_unknown_spi   192.0.2.7:4500 > 203.0.113.1:4500  106 octets  0200") ||
		!strings.Contains(lines[1], "fragment_limited  192.0.2.7 > -  99 octets") {
		t.Errorf("lines %q", lines)
	}
	_, out, _ = cli(t, "drops", "watch", socket, "-o", "json")
	var first local.DroppedPacket
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&first); err != nil || first.Reason != "esp_unknown_spi" || first.Length != 106 {
		t.Errorf("JSON %q: %+v, %v", out, first, err)
	}
}
