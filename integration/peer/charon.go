// Package peer drives strongSwan's charon as a VPN client that we did not
// write, inside a network namespace: with strongSwan's own userspace ESP
// (kernel-libipsec), so that it needs no IPsec in the kernel, or with the
// kernel's where that has some.
//
// It imports nothing of this project but integration/netns.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// Where the distribution's packages put the programs.
const (
	charonPath  = "/usr/lib/ipsec/charon"
	swanctlPath = "/usr/sbin/swanctl"
)

// ErrMissing says that strongSwan or a part of it is not installed.
var ErrMissing = errors.New("strongSwan is not complete on this host")

// Available returns ErrMissing with what is not there, or nil.
func Available() error {
	for _, path := range []string{
		charonPath, swanctlPath, "/dev/net/tun",
		"/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so", "/usr/lib/ipsec/plugins/libstrongswan-kernel-netlink.so",
		"/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: %w", ErrMissing, err)
		}
	}
	return nil
}

// Charon is a running strongSwan daemon.
type Charon struct {
	ns      *netns.Namespace
	dir     string
	kernel  bool
	crowd   bool
	process *netns.Process
}

// Option of a daemon that holds from its start to its end.
type Option func(*Charon)

// KernelIPsec leaves ESP to the kernel.
func KernelIPsec(c *Charon) { c.kernel = true }

// Crowd has a gateway take thousands of devices from one address: without cookies
// and the limit of five half-open IKE SAs an address, and with tables for that
// many IKE SAs.
func Crowd(c *Charon) { c.crowd = true }

// Start starts charon inside a namespace. Its configuration, socket and log
// lie in dir, which exists and is its own. It knows no connection before Load.
func Start(ctx context.Context, ns *netns.Namespace, dir string, options ...Option) (*Charon, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	c := &Charon{ns: ns, dir: dir}
	for _, option := range options {
		option(c)
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	// charon keeps its pid file in /run, and one of the host would stop it:
	// hence a /run of its own. exec keeps the pid that we know.
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$0"`, c.path("charon"))
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+c.path("strongswan.conf"))
	out, err := os.Create(c.path("charon.out"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if c.process, err = ns.Start(cmd); err != nil {
		return nil, err
	}
	if err := c.waitForSocket(ctx); err != nil {
		c.process.Kill()
		return nil, fmt.Errorf("starting charon: %w\n%s", err, c.LogTail(30))
	}
	return c, nil
}

// prepare writes what charon reads at its start. Programs are copied, because
// AppArmor (on by default in Debian and Ubuntu) ties profiles to their paths,
// and charon's profile doesn't let it read a configuration from here.
func (c *Charon) prepare() error {
	for name, from := range map[string]string{"charon": charonPath, "swanctl.bin": swanctlPath} {
		if err := copyProgram(c.path(name), from); err != nil {
			return err
		}
	}
	return c.writeSettings(Settings{})
}

func (c *Charon) writeSettings(s Settings) error {
	return os.WriteFile(c.path("strongswan.conf"), []byte(c.daemonConf(s)), 0o600)
}

// Set changes settings of the running daemon. They hold for SAs to come.
func (c *Charon) Set(ctx context.Context, s Settings) error {
	if err := c.writeSettings(s); err != nil {
		return err
	}
	return c.swanctl(ctx, "--reload-settings")
}

func (c *Charon) waitForSocket(ctx context.Context) error {
	for {
		if v, err := dialVICI(c.socket()); err == nil {
			return v.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.process.Done():
			return fmt.Errorf("it ended: %w", c.process.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Charon) path(name string) string { return filepath.Join(c.dir, name) }
func (c *Charon) socket() string          { return c.path("vici") }

// PID of the daemon.
func (c *Charon) PID() int { return c.process.PID() }

// Namespace in which the daemon runs.
func (c *Charon) Namespace() *netns.Namespace { return c.ns }

// LoadText loads connections and credentials from the text of a swanctl.conf
// and the files beside it.
func (c *Charon) LoadText(ctx context.Context, conf string, f Files) error {
	if err := f.write(c.path("swanctl")); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("swanctl/swanctl.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	return c.swanctl(ctx, "--load-all", "--clear", "--noprompt")
}

// Load makes charon a client with one connection.
func (c *Charon) Load(ctx context.Context, conn Connection) error {
	return c.LoadText(ctx, conn.conf(), conn.Files)
}

// Connect brings the connection up. It fails within patience where there is no
// answer, and at once where the gateway refuses.
func (c *Charon) Connect(ctx context.Context, patience time.Duration) error {
	return c.Initiate(ctx, FirstChild, patience)
}

// Initiate brings up one Child SA by its name, as a part of the IKE SA that
// there is, or with a new one.
func (c *Charon) Initiate(ctx context.Context, child string, patience time.Duration) error {
	seconds := max(1, int(patience.Round(time.Second)/time.Second))
	if err := c.swanctl(ctx, "--initiate", "--child", child, "--timeout", fmt.Sprint(seconds)); err != nil {
		return fmt.Errorf("%w\n%s", err, c.LogTail(25))
	}
	return nil
}

// RekeyChild begins to rekey a Child SA by its name, RekeyIKE the IKE SA. Both
// return before it is done.
func (c *Charon) RekeyChild(ctx context.Context, child string) error {
	return c.swanctl(ctx, "--rekey", "--child", child)
}

// RekeyIKE: see RekeyChild.
func (c *Charon) RekeyIKE(ctx context.Context) error {
	return c.swanctl(ctx, "--rekey", "--ike", connName)
}

// Freeze stops the daemon in its tracks, as a device does that sleeps; Thaw
// wakes it.
func (c *Charon) Freeze() error { return c.process.Signal(syscall.SIGSTOP) }

// Thaw: see Freeze.
func (c *Charon) Thaw() error { return c.process.Signal(syscall.SIGCONT) }

// Disconnect deletes the IKE SA, telling the gateway.
func (c *Charon) Disconnect(ctx context.Context) error {
	return c.swanctl(ctx, "--terminate", "--ike", connName, "--timeout", "10")
}

func (c *Charon) swanctl(ctx context.Context, args ...string) error {
	cmd := exec.Command(c.path("swanctl.bin"), append(args, "--uri", "unix://"+c.socket())...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+c.path("strongswan.conf"), "SWANCTL_DIR="+c.path("swanctl"))
	_, err := c.ns.Run(ctx, cmd)
	return err
}

// Nameservers are those that the gateway told, as the client uses them.
func (c *Charon) Nameservers() ([]netip.Addr, error) {
	text, err := os.ReadFile(c.path("resolv.conf"))
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			a, err := netip.ParseAddr(fields[1])
			if err != nil {
				return nil, err
			}
			servers = append(servers, a)
		}
	}
	return servers, nil
}

// Stop ends the daemon; it deletes its SAs first, telling the gateway.
func (c *Charon) Stop() error { return c.process.Stop(10 * time.Second) }

// Vanish ends the daemon without a word to the gateway, as a device does that
// lost its battery.
func (c *Charon) Vanish() { c.process.Kill() }

// Log is what the daemon wrote so far.
func (c *Charon) Log() string {
	var all strings.Builder
	for _, name := range []string{"charon.out", "charon.log"} {
		if b, err := os.ReadFile(c.path(name)); err == nil {
			all.Write(b)
		}
	}
	return all.String()
}

// LogTail is the last lines of the log.
func (c *Charon) LogTail(lines int) string {
	all := strings.Split(strings.TrimSpace(c.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func copyProgram(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
