// Package compare measures VPN gateways beside each other: in the same
// namespaces, with the same tools, in turn.
//
// What lives here: the contestants, how each is set up, the rounds, the
// measurements. What doesn't: load (packages flow and load; iperf3 for TCP),
// results (package report).
//
//	dev 10.1.0.2 -- 10.1.0.1 gw 10.2.0.1 -- 10.2.0.2 lan
package compare

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/process"
	"github.com/roamgate/roamgate/integration/netns"
)

// ErrMissing says which contestant or tool isn't on this machine.
var ErrMissing = errors.New("not on this machine")

// Programs that are run; empty ones are looked up in PATH.
type Programs struct {
	Bench, Gatewayd, WireGuard, IPerf string
	// Made with the build tag ipsecmb.
	BenchTogether, GatewaydTogether string
}

// lab is one set-up: fresh namespaces, a folder, and who is trusted.
type lab struct {
	*netns.Topology
	Programs
	dir string
	// processors of gateway and generator, each its own; apart is false where both
	// run anywhere.
	apart              bool
	gateway, generator int
	// stop in reverse order.
	running []func()
}

// identities of the laboratory.
const (
	gatewayID = "gw.example"
	clientID  = "dev.example"
)

// newLab lays namespaces. apart: the gateway gets a processor of its own, and what
// loads it another, if there are two. The folder goes with close.
func newLab(p Programs, apart bool) (*lab, error) {
	dir, err := os.MkdirTemp("", "cmp")
	if err != nil {
		return nil, err
	}
	l := &lab{Programs: p, dir: dir}
	if mine := processors(); apart && len(mine) > 1 {
		l.apart, l.gateway, l.generator = true, mine[0], mine[1]
	}
	if l.Topology, err = netns.Lay(netns.Options{Prefix: "cmp"}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := l.issue(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// processors that this process may run on.
func processors() (list []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	for i := 0; len(list) < set.Count(); i++ {
		if set.IsSet(i) {
			list = append(list, i)
		}
	}
	return list
}

func (l *lab) onGateway(program string, args ...string) (string, []string) {
	if !l.apart {
		return program, args
	}
	return process.Pinned(l.gateway, program, args)
}

func (l *lab) onGenerator(program string, args ...string) (string, []string) {
	if !l.apart {
		return program, args
	}
	return process.Pinned(l.generator, program, args)
}

func (l *lab) close() error {
	for i := len(l.running) - 1; i >= 0; i-- {
		l.running[i]()
	}
	return errors.Join(l.Topology.Close(), os.RemoveAll(l.dir))
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// issue writes ca, gw and dev as .crt and .key: ECDSA on P-256 throughout.
func (l *lab) issue() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "laboratory"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if err := l.write("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	for i, name := range []string{gatewayID, clientID} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}
		file, _, _ := strings.Cut(name, ".")
		if err := l.write(file, c, ca, key, caKey); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) write(name string, c, parent *x509.Certificate, key, sign *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), sign)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(l.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(l.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600),
	)
}

// start a program in a namespace, which ends with the lab. Its output is in the
// file of that name.
func (l *lab) start(ns *netns.Namespace, name, program string, args ...string) (*netns.Process, error) {
	out, err := os.Create(l.path(name + ".out"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, out, out
	p, err := ns.Start(cmd)
	if err != nil {
		return nil, err
	}
	l.running = append(l.running, func() { _ = p.Stop(5 * time.Second) })
	return p, nil
}

// says waits until the output of a program has a text.
func (l *lab) says(ctx context.Context, p *netns.Process, name, text string) error {
	for {
		out, err := os.ReadFile(l.path(name + ".out"))
		if err != nil {
			return err
		}
		if strings.Contains(string(out), text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s didn't say %q: %w\n%s", name, text, ctx.Err(), tail(out))
		case <-p.Done():
			return fmt.Errorf("%s ended: %w\n%s", name, p.Err(), tail(out))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sysfs writes below /sys as a namespace sees it.
func (l *lab) sysfs(ctx context.Context, ns *netns.Namespace, file, value string) error {
	_, err := l.run(ctx, ns, "unshare", "-m", "sh", "-c", `mount -t sysfs sysfs /sys && echo "$1" >"/sys/$2"`, "sh", value, file)
	return err
}

// run a command in a namespace to its end.
func (l *lab) run(ctx context.Context, ns *netns.Namespace, program string, args ...string) ([]byte, error) {
	out, err := ns.Run(ctx, exec.Command(program, args...))
	if err != nil {
		return out, fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	return out, nil
}

// tail of an output, for messages.
func tail(out []byte) string {
	const most = 2000
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return string(out)
}

// forward makes the gateway's namespace a plain router.
func (l *lab) forward() error {
	_, err := l.Gateway.Sysctl("net.ipv4.ip_forward", "1")
	return err
}
