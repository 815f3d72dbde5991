package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
)

// enrollmentMetrics is where `gatewayd init enrollment` has them.
var enrollmentMetrics = netip.MustParseAddrPort("127.0.0.1:9501")

// startEnrollment adds the role to the gateway's host and configuration.
func (d *demo) startEnrollment(ctx context.Context) error {
	say("Adding an enrollment server to them: gatewayd init enrollment, gatewayd run enrollment")
	if err := d.gatewayd(ctx, "init", "enrollment", "--dir", d.dir); err != nil {
		return err
	}
	e := gateway.NewEnrollment(d.topology.Gateway, d.program, d.config(), enrollmentMetrics)
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := e.Start(starting); err != nil {
		return err
	}
	d.enrollment = e
	return nil
}

// ticket is what an administrator gives to a user.
type ticket struct {
	Request struct {
		ID string `json:"id"`
	} `json:"request"`
	Password string `json:"password"`
	Code     string `json:"code"`
}

// request a one-time password for a device.
func (d *demo) request(ctx context.Context, device string) (t ticket, err error) {
	out, err := d.enrollment.Command(ctx, "enrollment", "request", "create", "--user", "ann", "--device", device, "-o", "json")
	if err != nil {
		return t, err
	}
	err = json.Unmarshal([]byte(out), &t)
	say(fmt.Sprintf("gatewayd enrollment request create --user ann --device %s\n    request %s, one-time password %s", device, t.Request.ID, t.Password))
	return t, err
}

// join enrolls the device with our own client, in the device's namespace.
func (d *demo) join(ctx context.Context, device string) (f peer.Files, err error) {
	t, err := d.request(ctx, device)
	if err != nil {
		return f, err
	}
	code, out := filepath.Join(d.dir, device+".code"), filepath.Join(d.dir, device)
	if err := os.WriteFile(code, []byte(t.Code+"\n"), 0o600); err != nil {
		return f, err
	}
	say("On the device: gatewayd enrollment join --server " + netns.GatewayOutside.String())
	_, err = run(ctx, d.topology.Devices[0].Namespace, d.program, "enrollment", "join",
		"--server", netns.GatewayOutside.String(), "--code-file", code, "--out", out)
	if err != nil {
		return f, fmt.Errorf("join: %w\nenrollment:\n%s", err, d.enrollment.LogTail(20))
	}
	for suffix, content := range map[string]*[]byte{".ca.pem": &f.CA, ".pem": &f.Cert, ".key": &f.Key} {
		if *content, err = os.ReadFile(filepath.Join(out, device+suffix)); err != nil {
			return f, err
		}
	}
	return f, nil
}

// est enrolls a device with strongSwan's tools only.
func (d *demo) est(ctx context.Context, device string) (f peer.Files, err error) {
	t, err := d.request(ctx, device)
	if err != nil {
		return f, err
	}
	say("On the device, without our client: pki --gen, pki --req, pki --est --userpass " + t.Request.ID + ":...")
	dev, file := d.topology.Devices[0].Namespace, func(name string) string { return filepath.Join(d.dir, device+name) }
	if f.Key, err = run(ctx, dev, "pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"); err != nil {
		return f, err
	}
	if err := os.WriteFile(file(".key"), f.Key, 0o600); err != nil {
		return f, err
	}
	csr, err := run(ctx, dev, "pki", "--req", "--in", file(".key"), "--type", "ecdsa", "--dn", "CN="+device)
	if err != nil {
		return f, err
	}
	if err := os.WriteFile(file(".csr"), csr, 0o600); err != nil {
		return f, err
	}
	authorities := filepath.Join(d.dir, "pki", "root.pem")
	f.Cert, err = run(ctx, dev, "pki", "--est", "--url", "https://"+netns.GatewayOutside.String(), "--in", file(".csr"),
		"--cacert", authorities, "--userpass", t.Request.ID+":"+t.Password, "--outform", "pem")
	if err != nil {
		return f, fmt.Errorf("pki --est: %w\nenrollment:\n%s", err, d.enrollment.LogTail(20))
	}
	if !strings.Contains(string(f.Cert), "BEGIN CERTIFICATE") {
		return f, fmt.Errorf("pki --est: %.200q is no certificate", f.Cert)
	}
	issuing, err := os.ReadFile(filepath.Join(d.dir, "pki", "issuing.pem"))
	if err != nil {
		return f, err
	}
	f.Cert = append(f.Cert, issuing...)
	f.CA, err = os.ReadFile(authorities)
	return f, err
}
