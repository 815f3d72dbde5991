package machine

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// programs of the guest; their libraries are found by what they import.
var programs = []string{
	"usr/bin/busybox", "usr/bin/dash",
	"usr/sbin/ip", "usr/sbin/bridge", "usr/sbin/tc", "usr/bin/ss", "usr/sbin/nft", "usr/bin/iperf3", "usr/bin/tcpdump",
	"usr/lib/ipsec/charon", "usr/lib/ipsec/_updown", "usr/sbin/swanctl",
	"usr/bin/certutil", "usr/bin/pk12util",
}

// folders that are taken as a whole: what programs load by name.
var folders = []string{
	"usr/lib/ipsec/plugins", "usr/libexec/ipsec", "usr/lib/x86_64-linux-gnu/ossl-modules", "etc/iproute2", "usr/share/dns",
}

// loaded are libraries that nobody imports, but NSS and the C library load.
var loaded = []string{
	"libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so", "libnssdbm3.so", "libnssckbi.so", "libnss_files.so.2", "libgcc_s.so.1",
}

// librarySpots are where a library may lie.
var librarySpots = []string{"usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/nss", "usr/lib/ipsec", "usr/lib64"}

// moduleFolders of the kernel that the guest gets.
var moduleFolders = []string{"kernel/net", "kernel/crypto", "kernel/lib", "kernel/arch/x86/crypto", "kernel/drivers/net"}

// hardware lies among drivers/net and isn't in the machine.
var hardware = []string{"ethernet", "hyperv", "wwan", "xen-netback", "fjes", "usb", "wireless", "phy", "can"}

// files that no package brings.
var written = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group":         "root:x:0:\nnogroup:x:65534:\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n",
	"etc/hosts":         "127.0.0.1 localhost vm\n::1 localhost\n",
	"etc/resolv.conf":   "",
}

// links that no package brings.
var links = map[string]string{
	"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
	"var/run": "/run", "usr/bin/sh": "dash", "usr/sbin/modprobe": "/usr/bin/busybox",
}

// applets of busybox that other programs call by name. They come last in PATH.
const appletFolder = "usr/lib/busybox"

// root is the guest's tree: where each path comes from on the host. Paths have
// no leading slash, and /bin, /sbin and /lib lie in /usr.
type root struct {
	unpacked string
	files    map[string]string
	links    map[string]string
}

// usr is where a path of a package lies once /bin, /sbin and /lib are links.
func usr(p string) string {
	for _, top := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(p, top) {
			return "usr/" + p
		}
	}
	return p
}

// collect chooses from an unpacked tree what the guest needs.
func collect(ctx context.Context, unpacked string) (*root, error) {
	r := &root{unpacked: unpacked, files: map[string]string{}, links: map[string]string{}}
	// All there is, by the path that it has in the guest.
	there := map[string]string{}
	err := filepath.WalkDir(unpacked, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(unpacked, p)
		there[usr(rel)] = p
		return err
	})
	if err != nil {
		return nil, err
	}
	var failed error
	for _, p := range programs {
		failed = errors.Join(failed, r.take(there, p))
	}
	for p := range there {
		if slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(p, f+"/") }) {
			failed = errors.Join(failed, r.take(there, p))
		}
	}
	for _, name := range loaded {
		if p, ok := library(there, name); ok {
			failed = errors.Join(failed, r.take(there, p))
		}
	}
	if failed != nil {
		return nil, fmt.Errorf("the packages lack what the guest needs: %w", failed)
	}
	for p, to := range links {
		r.links[p] = to
	}
	return r, r.addApplets(ctx)
}

// take adds a file, what a link points to, the loader that a program names and
// the libraries that it imports.
func (r *root) take(there map[string]string, p string) error {
	if _, ok := r.files[p]; ok || r.links[p] != "" {
		return nil
	}
	from, ok := there[p]
	if !ok {
		return fmt.Errorf("no %s", p)
	}
	if to, err := os.Readlink(from); err == nil {
		r.links[p] = to
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(p), to)
		}
		to = usr(strings.TrimPrefix(to, "/"))
		if _, ok := there[to]; !ok {
			return nil // to a folder, or to what only an installation makes
		}
		return r.take(there, to)
	}
	r.files[p] = from
	f, err := elf.Open(from)
	if err != nil {
		return nil // a script, or data
	}
	defer f.Close()
	imported, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP {
			loader := make([]byte, s.Filesz)
			if _, err := s.ReadAt(loader, 0); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if err := r.take(there, usr(strings.Trim(string(loader), "/\x00"))); err != nil {
				return err
			}
		}
	}
	for _, name := range imported {
		lib, ok := library(there, name)
		if !ok {
			return fmt.Errorf("%s imports %s, which no package brings", p, name)
		}
		if err := r.take(there, lib); err != nil {
			return err
		}
	}
	return nil
}

func library(there map[string]string, name string) (string, bool) {
	for _, spot := range librarySpots {
		if p := spot + "/" + name; there[p] != "" {
			return p, true
		}
	}
	return "", false
}

func (r *root) addApplets(ctx context.Context) error {
	list, err := run(exec.CommandContext(ctx, r.files["usr/bin/busybox"], "--list"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(list) {
		r.links[appletFolder+"/"+name] = "/usr/bin/busybox"
	}
	return nil
}

// addModules puts the kernel's modules into the tree, decompressed, with the
// lists that modprobe reads, and returns the path of the kernel.
func (r *root) addModules(ctx context.Context) (kernel string, err error) {
	versions, err := filepath.Glob(filepath.Join(r.unpacked, "boot/vmlinuz-*"))
	if err != nil || len(versions) != 1 {
		return "", fmt.Errorf("not one kernel in the packages: %v, %w", versions, err)
	}
	kernel = versions[0]
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	from := filepath.Join(r.unpacked, "lib/modules", version)
	if _, err := os.Stat(from); err != nil {
		from = filepath.Join(r.unpacked, "usr/lib/modules", version)
	}
	// depmod reads below lib/modules.
	base := r.unpacked + ".modules"
	to := filepath.Join(base, "lib/modules", version)
	for _, folder := range moduleFolders {
		if err := copyModules(filepath.Join(from, folder), filepath.Join(to, folder)); err != nil {
			return "", err
		}
	}
	busybox := r.files["usr/bin/busybox"]
	for _, command := range [][]string{
		{"sh", "-c", `find "$0" -name '*.ko.*' | xargs -r -n 64 sh -c 'case $1 in *.xz) xz -d "$@";; *.zst) zstd -q --rm -d "$@";; *) gzip -d "$@";; esac' x`, to},
		{busybox, "depmod", "-b", base, version},
	} {
		if _, err := run(exec.CommandContext(ctx, command[0], command[1:]...)); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"modules.builtin", "modules.order"} {
		if content, err := os.ReadFile(filepath.Join(from, name)); err == nil {
			if err := os.WriteFile(filepath.Join(to, name), content, 0o644); err != nil {
				return "", err
			}
		}
	}
	err = filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(base, p)
		r.files[usr(rel)] = p
		return err
	})
	return kernel, err
}

func copyModules(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(hardware, rel) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, 0o644)
	})
}

// write writes the tree in the order of paths, folders before what lies in
// them.
func (r *root) write(a *archive) error {
	folder := map[string]bool{".": true}
	var parents func(p string)
	parents = func(p string) {
		dir := path.Dir(p)
		if folder[dir] {
			return
		}
		parents(dir)
		folder[dir] = true
		a.add(dir, cpioDir, 0o755, nil)
	}
	for _, p := range []string{"proc/x", "sys/x", "dev/x", "run/x", "tmp/x", "root/x", "var/lib/x", "var/log/x", "etc/x", "usr/bin/x", "usr/sbin/x", "usr/lib/x", "usr/lib64/x"} {
		parents(p)
	}
	var paths []string
	for _, m := range []map[string]string{r.files, r.links, written} {
		for p := range m {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		parents(p)
		if to, ok := r.links[p]; ok {
			a.add(p, cpioSymlink, 0o777, []byte(to))
			continue
		}
		if text, ok := written[p]; ok {
			a.add(p, cpioFile, 0o644, []byte(text))
			continue
		}
		content, err := os.ReadFile(r.files[p])
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(r.files[p]); err == nil && info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		a.add(p, cpioFile, mode, content)
	}
	return a.err
}
