package integration

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

// secondGateway runs where a device could be, with the first one's credential.
// Its interface inside exists.
func (s *scenario) secondGateway(t *testing.T, there netns.Device, inside string, conf gateway.Config) *gateway.Gateway {
	t.Helper()
	dir := shortDir(t)
	for _, name := range []string{"gw.crt", "gw.key", "root.crt"} {
		content, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer(
		"interface: "+netns.OutsideLink, "interface: "+netns.HostLink,
		"address: "+netns.GatewayOutside.String(), "address: "+there.Address.String(),
		"interface: "+netns.InsideLink, "interface: "+inside).Replace(conf.YAML())
	file := filepath.Join(dir, "gatewayd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	second := gateway.New(there.Namespace, program(t, gatewayd), file, gateway.MetricsAt)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	if err := second.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the second gatewayd:\n%s", second.LogTail(40))
		}
		second.Kill()
	})
	return second
}

// dialing is the configuration of a device that dials the gateway there.
func dialing(cfg device.Config, there netns.Device) device.Config {
	cfg.Gateway, cfg.GatewayNATT = netip.AddrPortFrom(there.Address, 500), netip.AddrPortFrom(there.Address, 4500)
	return cfg
}
