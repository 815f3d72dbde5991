package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/gatewayd/config"
)

// initDirVariable turns the test binary into a process that does init all in that
// folder.
const initDirVariable = "ROAMGATE_TEST_INIT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(initDirVariable); dir != "" {
		if err := initAllIn(dir, io.Discard); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// initAllIn a folder as on a system, with the CA's folder not below the
// configuration's.
func initAllIn(dir string, w io.Writer) error {
	f := &initAllFlags{url: "https://203.0.113.1"}
	f.external, f.internal, f.id, f.dir = "eth0", "eth1", "vpn.example.com", dir
	f.address, f.pool = netip.MustParseAddr("203.0.113.1"), netip.MustParsePrefix("10.9.0.0/16")
	f.networks = []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}
	p := initPaths{filepath.Join(dir, "etc", "gatewayd.yaml"), filepath.Join(dir, "lib", "pki"), "state", "run"}
	return staged(w, p, func(s *staging) error {
		if err := s.fresh(); err != nil {
			return err
		}
		return f.write(w, &global{config: p.file}, s, netip.MustParseAddr("10.2.0.1"))
	})
}

// TestInitAllKilled: what kill -9 before any change of a file leaves, the next
// init finishes or begins anew, without anybody's help.
func TestInitAllKilled(t *testing.T) {
	// In memory, where all the syncs cost nothing.
	top, err := os.MkdirTemp("/dev/shm", "gatewayd-init-") //nolint:usetesting // see above
	if err != nil {
		top = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, snapshots := filepath.Join(top, "host"), filepath.Join(top, "killed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := 0
	traceChanges(t, dir, func() {
		n++
		if err := copyTree(dir, filepath.Join(snapshots, strconv.Itoa(n))); err != nil {
			t.Fatal(err)
		}
	})
	whole := checkInit(t, dir)
	finished, anew, there := 0, 0, 0
	for i := range n {
		if err := errors.Join(os.RemoveAll(dir), os.Rename(filepath.Join(snapshots, strconv.Itoa(i+1)), dir)); err != nil {
			t.Fatal(err)
		}
		visible, before := os.ReadFile(filepath.Join(dir, "etc", "gatewayd.yaml"))
		var out strings.Builder
		err := initAllIn(dir, &out)
		switch {
		case before == nil:
			// Killed while it swept up.
			there++
			if err == nil && !strings.Contains(out.String(), errFinished.Error()) || string(visible) != whole {
				t.Fatalf("change %d: %v, %s", i, err, out.String())
			}
		case err != nil:
			t.Fatalf("change %d: %v", i, err)
		case strings.Contains(out.String(), errFinished.Error()):
			finished++
		default:
			anew++
		}
		after := checkInit(t, dir)
		if finished+there > 0 && after != whole {
			t.Fatalf("change %d: the configuration isn't the one that was complete", i)
		}
	}
	t.Logf("killed before each of %d changes: %d times anew, %d times finished, %d times there was only something to sweep up", n, anew, finished, there)
	if anew < 50 || finished < 10 || there == 0 {
		t.Error("too few of a kind: did the trace miss changes?")
	}
}

// checkInit that everything is there, belongs together, and nothing else is there.
func checkInit(t *testing.T, dir string) (text string) {
	t.Helper()
	etc, lib := filepath.Join(dir, "etc"), filepath.Join(dir, "lib")
	cfg, err := config.Load(filepath.Join(etc, "gatewayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"gateway", "manager", "enrollment"} {
		if err := cfg.Require(role); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(cfg.Path(cfg.Gateway.Trust.Roots[0]))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("root: %v", err)
	}
	for _, name := range []string{"gateway", "enrollment", "admin", "management", "manager"} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(etc, name+".pem"), filepath.Join(etc, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		issuing, err := x509.ParseCertificate(pair.Certificate[1])
		if err != nil {
			t.Fatal(err)
		}
		between := x509.NewCertPool()
		between.AddCert(issuing)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, folder := range []string{dir, etc, lib} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				t.Fatalf("left behind: %s in %s", e.Name(), folder)
			}
		}
	}
	b, err := os.ReadFile(filepath.Join(etc, "gatewayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// traceChanges runs init all in another process and calls before each of its system
// calls that change a folder, or make a file.
func traceChanges(t *testing.T, dir string, each func()) {
	t.Helper()
	// ptrace(2) wants one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), initDirVariable+"="+dir)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	group := -c.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.Process.Pid, &status, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceSetOptions(c.Process.Pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	inside := map[int]bool{} // threads in a system call
	thread, signal := c.Process.Pid, 0
	for {
		// ESRCH: it was killed meanwhile, by the end of the process.
		if err := unix.PtraceSyscall(thread, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		var err error
		for err = unix.EINTR; err == unix.EINTR; {
			thread, err = unix.Wait4(group, &status, unix.WALL, nil)
		}
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		signal = 0
		switch {
		case status.Exited() || status.Signaled():
			if thread == c.Process.Pid {
				if status.ExitStatus() != 0 {
					t.Fatalf("init all ended with %d", status.ExitStatus())
				}
				return
			}
		case status.StopSignal() == unix.SIGTRAP|0x80:
			inside[thread] = !inside[thread]
			var r unix.PtraceRegs
			if inside[thread] && unix.PtraceGetRegs(thread, &r) == nil && changes(&r) {
				each()
			}
		case status.StopSignal() == unix.SIGTRAP, status.StopSignal() == unix.SIGSTOP:
			// A new thread, on either side.
		default:
			signal = int(status.StopSignal())
		}
	}
}

func changes(r *unix.PtraceRegs) bool {
	switch r.Orig_rax {
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT:
		return true
	case unix.SYS_OPENAT:
		return r.Rdx&unix.O_CREAT != 0
	}
	return false
}

// copyTree with the modes.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm())
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, info.Mode().Perm())
	})
}
