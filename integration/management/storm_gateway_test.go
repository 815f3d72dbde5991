package management

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

// gatewayName in certificates: devices take all gateways for the same.
const gatewayName = "gw.example"

var (
	stormPool = netip.MustParsePrefix("10.9.0.0/24")
	alertFrom = netip.MustParseAddr("10.9.0.254")
)

// outpost is a gateway in a topology of its own, with devices in front of it. The
// manager, which is on the loopback interface, dials a port there that leads to
// the gateway's management port.
type outpost struct {
	*gateway.Gateway
	t    *testing.T
	name string
	top  *netns.Topology
	dir  string
}

// outpost number n of a world that runs. It joins as an administrator has it join.
func (w *world) outpost(m *client.Client, n int, more string) *outpost {
	t := w.t
	t.Helper()
	o := &outpost{t: t, name: fmt.Sprintf("gw%d", n), top: netns.ForTest(t, netns.Options{Prefix: "rgstorm"})}
	var err error
	if o.dir, err = os.MkdirTemp("", "rgo"); err != nil { //nolint:usetesting // a socket's path is short
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(o.dir) })
	w.must(w.command("certificate", "issue", "gateway", gatewayName, "--out", o.dir, "--config", w.file))
	key, err := ca.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	w.must("", os.WriteFile(filepath.Join(o.dir, "management.key"), text, 0o600))
	oid := regexp.MustCompile(`2\.25\.\d+`).FindString(string(w.read("gatewayd.yaml")))
	at := netip.AddrPortFrom(netns.GatewayInside, 8447)
	conf := gateway.Config{
		ID: gatewayName, Certificate: "gateway.pem", Key: "gateway.key", LogLevel: "info", InstanceOIDs: []string{oid},
		Roots: []string{filepath.Join(w.dir, "pki", "root.pem")}, Intermediates: []string{filepath.Join(w.dir, "pki", "issuing.pem")},
		Management: fmt.Sprintf("{listen: %q, name: %s, host: %s.example, key: management.key, roots: [%s], instance_oid: %s%s}",
			at, o.name, o.name, filepath.Join(w.dir, "pki", "root.pem"), oid, more),
		Extra: fmt.Sprintf("  tunnel: {address: %s}\n", alertFrom),
	}
	file := filepath.Join(o.dir, "gatewayd.yaml")
	w.must("", os.WriteFile(file, []byte(conf.YAML()), 0o600))
	o.Gateway = gateway.New(o.top.Gateway, w.program, file, gateway.MetricsAt)
	o.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", o.name, o.LogTail(60))
		}
		o.Kill()
	})
	leads := w.lead(8447+n, o.top.LAN, at)
	_, err = client.Call(t.Context(), m, api.GatewayAdd, &api.AddGateway{Body: api.NewGateway{
		Name: o.name, Address: leads, Host: o.name + ".example", Fingerprint: fmt.Sprintf("%x", sha256.Sum256(public)),
	}})
	w.must("", err)
	return o
}

func (o *outpost) start() {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	if err := o.Start(ctx); err != nil {
		o.t.Fatal(err)
	}
}

// lead connections to a port of the world into a namespace.
func (w *world) lead(port int, ns *netns.Namespace, to netip.AddrPort) string {
	w.t.Helper()
	l, err := net.Listen("tcp", w.port(port))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := ns.Dial(to, 2*time.Second)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					_, _ = io.Copy(far, near)
					_ = far.CloseWrite()
				}()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return l.Addr().String()
}

// evidence of a gateway by its own commands.
func (o *outpost) evidence(ctx context.Context) (*gatewayEvidence, error) {
	out, err := o.Command(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Management struct {
			Sections []struct {
				Name, Version, Hash string
				Applied             bool
			}
		}
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&status); err != nil {
		return nil, err
	}
	e := &gatewayEvidence{Sections: map[string]sectionEvidence{}, Leases: map[string]string{}}
	for _, s := range status.Management.Sections {
		e.Sections[s.Name] = sectionEvidence{s.Version, s.Hash, s.Applied}
	}
	sessions, err := o.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range sessions {
		e.Sessions = append(e.Sessions, sessionEvidence{s.Device, o.name, texts(s.VirtualIPs)})
	}
	leases, err := o.Leases(ctx)
	for _, l := range leases {
		e.Leases[l.Address.String()] = l.Device
	}
	return e, err
}
