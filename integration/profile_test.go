package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
)

// A gateway whose CA is `gatewayd pki`, and devices that got nothing but what
// `gatewayd pki device --profile strongswan` made: strongSwan's own tool loads
// the folder as it is, connects, and packets reach the host inside.
//
//	dev1, dev2 (strongSwan, the folder) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestProfileConnects(t *testing.T) {
	daemon := program(t, gatewayd)
	var pki func(args ...string) []byte
	s := newScenario(t, options{devices: 2, configure: func(s *scenario) {
		pki = func(args ...string) []byte {
			t.Helper()
			cmd := exec.CommandContext(s.ctx, daemon, append([]string{"pki", "--dir", filepath.Join(s.dir, "pki")}, args...)...)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("gatewayd pki %s: %v\n%s", strings.Join(args, " "), err, said(err))
			}
			return out
		}
		var ca struct {
			InstanceOID string `json:"instance_oid"`
		}
		if err := json.Unmarshal(pki("init", "--plain-keys", "-o", "json"), &ca); err != nil {
			t.Fatal(err)
		}
		pki("gateway", gatewayID, "--out", s.dir)
		s.conf.Certificate, s.conf.Key = "gateway.pem", "gateway.key"
		s.conf.Roots, s.conf.InstanceOIDs = []string{"pki/root.pem"}, []string{ca.InstanceOID}
	}})

	// Proposals, networks and the gateway's identity come from its
	// configuration; the address to dial is said, and the second device asks
	// for everything, of which the gateway gives what it has.
	for i, more := range [][]string{nil, {"--network", "0.0.0.0/0", "--connect", "always", "--key", "rsa-2048"}} {
		dev := s.top.Devices[i]
		name := fmt.Sprintf("dev%d", i+1)
		pki(append([]string{
			"-c", filepath.Join(s.dir, "gatewayd.yaml"), "device", name, "--profile", "strongswan",
			"--gateway", netns.GatewayOutside.String(), "--out", s.dir,
		}, more...)...)
		var connect []string // the second one does it by itself
		if i == 0 {
			connect = []string{"--initiate", "--child", "roamgate-" + name, "--timeout", "20"}
		}
		client := s.imported(t, dev, filepath.Join(s.dir, name+".swanctl"), connect)
		s.eventually(t, "a connection of "+name, func() (bool, string) {
			sa, err := client.SA()
			return err == nil, fmt.Sprint(sa, err)
		})
		address, err := client.VirtualIP()
		if err != nil {
			t.Fatal(err)
		}
		if !pool.Contains(address) {
			t.Errorf("virtual IP %s is not of the pool %s", address, pool)
		}
		s.ping(t, client, address)
		if sessions := s.sessions(t); !slices.ContainsFunc(sessions, func(s gateway.Session) bool { return s.Device == name }) {
			t.Errorf("sessions %+v, want one of %s", sessions, name)
		}
	}
}

// imported starts a strongSwan that loads a folder of swanctl's as it is, and
// then does what connect says.
func (s *scenario) imported(t *testing.T, dev netns.Device, folder string, connect []string) *peer.Charon {
	t.Helper()
	dir := shortDir(t)
	client, err := peer.Start(s.ctx, dev.Namespace, dir, clientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("charon in %s:\n%s", dev.Name(), client.LogTail(60))
		}
		client.Vanish()
	})
	for _, args := range [][]string{{"--load-all", "--noprompt"}, connect} {
		if args == nil {
			continue
		}
		cmd := exec.Command(filepath.Join(dir, "swanctl.bin"), append(args, "--uri", "unix://"+filepath.Join(dir, "vici"))...)
		cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(dir, "strongswan.conf"), "SWANCTL_DIR="+folder)
		if out, err := dev.Namespace.Run(s.ctx, cmd); err != nil {
			t.Fatalf("%v\n%s\ngatewayd:\n%s", err, out, s.gw.LogTail(30))
		}
	}
	return client
}

// said is what a program wrote before it failed.
func said(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}
