package profile_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roamgate/roamgate/enrollment/profile"
)

// TestSwanctlLoads: strongSwan's own tool loads the folder into a charon, which
// shows connections and certificates with a key.
func TestSwanctlLoads(t *testing.T) {
	for name, p := range cases(t) {
		t.Run(name, func(t *testing.T) {
			// "start" and "trap" would act; here is nothing to act on.
			connect := p.Connect
			p.Connect = profile.Manual
			b := build(t, profile.StrongSwan, p, options())
			c := startCharon(t)
			lay(t, c.dir, b, 0)
			loaded := c.swanctl(t, filepath.Join(c.dir, "phone-1.swanctl"), "--load-all", "--noprompt")
			for _, want := range []string{
				fmt.Sprintf("successfully loaded %d connections, 0 unloaded", len(p.Gateways)),
				"loaded certificate from", "loaded private key from",
			} {
				if !strings.Contains(loaded, want) {
					t.Errorf("swanctl doesn't say %q:\n%s", want, loaded)
				}
			}
			for line := range strings.Lines(loaded) {
				// Folders of kinds that we don't use.
				if strings.Contains(line, "failed") && !strings.HasPrefix(line, "opening directory") {
					t.Errorf("swanctl says: %s", line)
				}
			}
			conns := c.swanctl(t, "", "--list-conns")
			for _, want := range []string{"roamgate-phone-1: IKEv2", "id: " + id(p.Gateways[0]), "certs: CN=phone-1", "roamgate-phone-1: TUNNEL"} {
				if !strings.Contains(conns, want) {
					t.Errorf("no %q among the connections:\n%s", want, conns)
				}
			}
			certs := c.swanctl(t, "", "--list-certs")
			for _, want := range []string{"CN=Test Root CA", "CN=Test Issuing CA", "CN=phone-1", "has private key"} {
				if !strings.Contains(certs, want) {
					t.Errorf("no %q among the certificates:\n%s", want, certs)
				}
			}
			// With their real way to connect the settings are read too.
			p.Connect = connect
			lay(t, c.dir, build(t, profile.StrongSwan, p, options()), 0)
			if out := c.swanctl(t, filepath.Join(c.dir, "phone-1.swanctl"), "--load-conns"); !strings.Contains(out, "successfully loaded") {
				t.Errorf("connecting %s:\n%s", connect, out)
			}
		})
	}
}

func id(g profile.Gateway) string {
	if g.ID != "" {
		return g.ID
	}
	return g.Address
}

// charon runs in its own network namespace, which has no network.
type charon struct{ dir string }

const charonConf = `charon {
  load = random nonce openssl aes sha2 hmac kdf gcm x509 pubkey pkcs1 pkcs8 pem kernel-netlink socket-default vici
  threads = 16
  filelog {
    file {
      path = %[1]s/charon.log
      flush_line = yes
    }
  }
  plugins {
    vici {
      socket = unix://%[1]s/vici
    }
  }
}
`

func startCharon(t *testing.T) charon {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "charon needs root")
	}
	// The path of a unix socket has at most 107 octets.
	dir, err := os.MkdirTemp("", "rg") //nolint:usetesting // its path is too long, see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// AppArmor ties profiles to the paths of programs, and charon's lets it
	// read nothing here.
	for name, from := range map[string]string{"charon": "/usr/lib/ipsec/charon", "swanctl": "/usr/sbin/swanctl"} {
		program, err := os.ReadFile(from)
		if err != nil {
			missing(t, err.Error())
		}
		if err := os.WriteFile(filepath.Join(dir, name), program, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "strongswan.conf"), fmt.Appendf(nil, charonConf, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	// charon keeps its pid file in /run; exec keeps the pid that we know.
	cmd := exec.CommandContext(ctx, "unshare", "-m", "-n", "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$0"`, filepath.Join(dir, "charon"))
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(dir, "strongswan.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "charon.log"))
			t.Logf("charon:\n%s", log)
		}
	})
	for {
		if _, err := os.Stat(filepath.Join(dir, "vici")); err == nil {
			return charon{dir}
		}
		if ctx.Err() != nil {
			t.Fatal("charon opened no socket")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// swanctl runs with a folder of its own configuration.
func (c charon) swanctl(t *testing.T, conf string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.dir, "swanctl"), append(args, "--uri", "unix://"+filepath.Join(c.dir, "vici"))...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(c.dir, "strongswan.conf"), "SWANCTL_DIR="+conf)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("swanctl %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
