package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

const device = "phone-1"

// elsewhere is where the device roams to.
var elsewhere = netip.MustParseAddr("10.1.0.77")

// noCamera is a document of policies.
const noCamera = `sets:
  - name: no camera
    settings:
      - {uri: ` + cameraNode + `, format: int, data: "0", there: true}
links:
  - {unit: "", set: no camera, order: 1, enforced: true}
`

func (d *demo) policy(ctx context.Context) (string, error) {
	file := filepath.Join(d.dir, "policies.yaml")
	if err := os.WriteFile(file, []byte(noCamera), 0o600); err != nil {
		return "", err
	}
	_, err := d.gatewayd(ctx, "policy", "apply", file, "--base", "0", "--comment", "no cameras")
	return cameraNode + " = 0", err
}

func (d *demo) join(ctx context.Context) (string, error) {
	dir, code := filepath.Join(d.dir, device), filepath.Join(d.dir, "code")
	if err := os.WriteFile(code, []byte(d.system.code+"\n"), 0o600); err != nil {
		return "", err
	}
	_, err := run(ctx, d.topology.Devices[0].Namespace, d.program, "enrollment", "join",
		"--server", netns.GatewayOutside.String(), "--code-file", code, "--out", dir)
	if err != nil {
		return "", err
	}
	if d.phone, err = newPhone(d.topology.Devices[0].Namespace, dir, device); err != nil {
		return "", err
	}
	// It is the gateway's to know before the device comes.
	var access struct {
		Addresses []netip.Addr `json:"addresses"`
		Held      bool         `json:"held"`
	}
	err = eventually(ctx, "the manager to know of it", func() error {
		out, err := d.gatewayd(ctx, "device", "access", device, "-o", "json")
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(out), &access)
	})
	if err != nil {
		return "", err
	}
	if !access.Held || len(access.Addresses) == 0 {
		return "", fmt.Errorf("the manager says of it: %+v", access)
	}
	return fmt.Sprintf("a certificate; its address is %s at every gateway", access.Addresses[0]), nil
}

func (d *demo) connect(ctx context.Context) (string, error) {
	dir := filepath.Join(d.dir, "client")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	dev := d.topology.Devices[0]
	if _, err := dev.Sysctl("net.ipv4.conf."+netns.HostLink+".promote_secondaries", "1"); err != nil {
		return "", err
	}
	var err error
	if d.client, err = peer.Start(ctx, dev.Namespace, dir); err != nil {
		return "", err
	}
	tunnel, err := d.insideAddress()
	if err != nil {
		return "", err
	}
	if err := d.client.Load(ctx, peer.Connection{
		Files: d.phone.files, Gateway: netns.GatewayOutside, RemoteID: gatewayID,
		Remote: []netip.Prefix{netns.Inside, netip.PrefixFrom(tunnel, tunnel.BitLen())},
	}); err != nil {
		return "", err
	}
	if err := d.client.Connect(ctx, 20*time.Second); err != nil {
		return "", err
	}
	if d.address, err = d.client.VirtualIP(); err != nil {
		return "", err
	}
	s, err := d.session(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s, group %s", d.address, s.IKE, s.Group), nil
}

// insideAddress is the gateway's in the tunnel, where alerts come from.
func (d *demo) insideAddress() (netip.Addr, error) {
	text, err := os.ReadFile(filepath.Join(d.phone.dir, device+".configuration.json"))
	if err != nil {
		return netip.Addr{}, err
	}
	var told struct {
		Networks []netip.Prefix `json:"networks"`
	}
	if err := json.Unmarshal(text, &told); err != nil {
		return netip.Addr{}, err
	}
	for _, n := range told.Networks {
		if n.IsSingleIP() {
			return n.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of the gateway among %v", told.Networks)
}

// session of the device, the only one.
func (d *demo) session(ctx context.Context) (gateway.Session, error) {
	all, err := d.gateway.Sessions(ctx)
	if err != nil {
		return gateway.Session{}, err
	}
	if len(all) != 1 || all[0].Device != device {
		return gateway.Session{}, fmt.Errorf("the gateway has %+v, want one session of %s", all, device)
	}
	return all[0], nil
}

// release is seen by a ping that runs all the time.
func (d *demo) release(ctx context.Context) (string, error) {
	before, err := d.session(ctx)
	if err != nil {
		return "", err
	}
	pings, err := traffic.StartPings(d.phone.ns, d.address, netns.LANHost, 5*time.Millisecond)
	if err != nil {
		return "", err
	}
	defer pings.Stop()
	time.Sleep(time.Second) // in quarantine
	held, answered := pings.Answered(time.Time{})
	if held == 0 || answered != 0 {
		return "", fmt.Errorf("in quarantine %d of %d echo requests were answered", answered, held)
	}
	// Devices come by themselves, three minutes after they enrolled; not this one.
	if _, err := d.phone.client.Session(ctx); err != nil {
		return "", fmt.Errorf("OMA DM session: %w", err)
	}
	applied := time.Now()
	if camera := d.phone.camera(); camera != "0" {
		return "", fmt.Errorf("after the session %s is %s", cameraNode, camera)
	}
	var sent, back time.Time
	err = eventually(ctx, "the quarantine to be lifted", func() error {
		if sent, back = pings.FirstAnswer(time.Time{}); back.IsZero() {
			return errNotYet
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	time.Sleep(time.Second)
	pings.Enough()
	var after int
	err = eventually(ctx, "answers to all since the release", func() error {
		if after, answered = pings.Answered(sent); answered != after {
			return fmt.Errorf("%d of %d echo requests were answered", answered, after)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	now, err := d.session(ctx)
	if err != nil {
		return "", err
	}
	if now.ID != before.ID {
		return "", fmt.Errorf("session %s has become %s", before.ID, now.ID)
	}
	return fmt.Sprintf("the same session; of a running ping %d of %d before were stopped, the first one passed %d ms after the DM session, %d of %d since",
		held, held, back.Sub(applied).Milliseconds(), answered, after), nil
}

// move traffic, and tell what moves it.
func (d *demo) move(ctx context.Context) (string, error) {
	dev, lan := d.topology.Devices[0], d.topology.LAN
	up, err := traffic.TCP(ctx, dev.Namespace, lan, netns.LANHost, d.size)
	if err != nil {
		return "", fmt.Errorf("TCP up: %w", err)
	}
	down, err := traffic.TCP(ctx, lan, dev.Namespace, d.address, d.size)
	if err != nil {
		return "", fmt.Errorf("TCP down: %w", err)
	}
	if up.From != d.address {
		return "", fmt.Errorf("the host inside saw %s, not the virtual IP %s", up.From, d.address)
	}
	s, err := d.session(ctx)
	if err != nil {
		return "", err
	}
	status, err := d.gateway.Status(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.0f Mb/s up, %.0f down, content verified; %s in UDP, backend %s",
		up.BitsPerSecond()/1e6, down.BitsPerSecond()/1e6, s.Children[0].ESP, status.Backend), nil
}

func (d *demo) roam(ctx context.Context) (string, error) {
	dev := d.topology.Devices[0]
	before, err := d.session(ctx)
	if err != nil {
		return "", err
	}
	moved := time.Now()
	if err := errors.Join(
		dev.AddAddress(netns.HostLink, netip.PrefixFrom(elsewhere, 24)),
		dev.DelAddress(netns.HostLink, netip.PrefixFrom(dev.Address, 24))); err != nil {
		return "", err
	}
	pinging, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = eventually(ctx, "the session to move", func() error {
		now, err := d.session(ctx)
		if err == nil && (now.Remote.Addr() != elsewhere || now.ID != before.ID) {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if _, err := traffic.Ping(pinging, d.phone.ns, d.address, netns.LANHost, 56); err != nil {
		return "", err
	}
	return fmt.Sprintf("MOBIKE: the same session from %s, %s answers after %d ms", elsewhere, netns.LANHost, time.Since(moved).Milliseconds()), nil
}

func (d *demo) lock(ctx context.Context) (string, error) {
	if err := d.phone.listen(ctx, d.address); err != nil {
		return "", err
	}
	placed := time.Now()
	if _, err := d.gatewayd(ctx, "task", "place", "lock", "--device", device, "--wait"); err != nil {
		return "", err
	}
	// The server knows before the device's session has ended.
	err := eventually(ctx, "the session of an alert", func() error {
		if !d.phone.locked.Load() || d.phone.heard.Load() == 0 {
			return fmt.Errorf("locked %t, sessions that an alert began %d", d.phone.locked.Load(), d.phone.heard.Load())
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("locked and confirmed %d ms after the administrator asked", time.Since(placed).Milliseconds()), nil
}

func (d *demo) wipe(ctx context.Context) (string, error) {
	asked := time.Now()
	if _, err := d.gatewayd(ctx, "task", "place", "wipe", "--device", device, "--yes"); err != nil {
		return "", err
	}
	var wiped time.Time
	err := eventually(ctx, "the device to be wiped, and its session to be cut", func() error {
		if !d.phone.wiped.Load() {
			return errNotYet
		}
		if wiped.IsZero() {
			wiped = time.Now()
		}
		all, err := d.gateway.Sessions(ctx)
		if err == nil && len(all) > 0 {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		return "", err
	}
	cut := time.Now()
	out, err := d.gatewayd(ctx, "device", "show", device)
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "closed") {
		return "", fmt.Errorf("the manager says of it:\n%s", out)
	}
	return fmt.Sprintf("wiped after %d ms, cut %d ms later", wiped.Sub(asked).Milliseconds(), cut.Sub(wiped).Milliseconds()), nil
}

func (d *demo) refused(ctx context.Context) (string, error) {
	if err := d.client.Connect(ctx, 5*time.Second); err == nil {
		return "", errors.New("a device that was wiped got in")
	}
	if all, err := d.gateway.Sessions(ctx); err != nil || len(all) > 0 {
		return "", fmt.Errorf("sessions %+v, %w", all, err)
	}
	drops, err := d.gateway.Drops(ctx)
	if err != nil {
		return "", err
	}
	for _, drop := range drops {
		if drop.Layer == "admit" && drop.Count > 0 {
			return "refused: " + drop.Reason, nil
		}
	}
	return "refused", nil
}

// judge the capture of the inside: the gateway opens no connection there.
func (d *demo) judge(context.Context) (string, error) {
	if err := d.stopCapture(); err != nil {
		return "", err
	}
	list, err := traffic.Attempts(filepath.Join(d.dir, "inside.pcap"), netns.GatewayInside)
	if err != nil {
		return "", err
	}
	if len(list) > 0 {
		return "", fmt.Errorf("the gateway opened %v", list)
	}
	return "not one connection of its own", nil
}
