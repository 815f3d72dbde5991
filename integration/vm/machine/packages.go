package machine

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
)

// kernels are the packages that bring a kernel, the first that the
// distribution has is taken: Debian 12, later Debian, Ubuntu.
var kernels = []string{"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-virtual"}

// userland is what the guest runs. Each group is resolved by itself, because
// libreswan and strongSwan refuse to be installed together.
var userland = [][]string{
	{
		"busybox-static", "dash", "iproute2", "nftables", "iperf3", "tcpdump",
		"strongswan-charon", "strongswan-swanctl", "libcharon-extra-plugins", "libstrongswan-standard-plugins",
	},
	{"libreswan", "libnss3-tools"},
}

// deb is a package in one version.
type deb struct {
	Name, Version string
	File          string // as apt names it in a folder of downloads
}

func (d deb) String() string { return d.Name + "=" + d.Version }

// resolve lists the packages of the guest with all that they depend on, as if
// nothing were installed, so that the host's own packages don't matter.
func resolve(ctx context.Context) ([]deb, error) {
	kernel, err := resolveKernel(ctx)
	if err != nil {
		return nil, err
	}
	all := kernel
	for _, group := range userland {
		some, err := solve(ctx, group)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b deb) int { return strings.Compare(a.File, b.File) })
	return slices.Compact(all), nil
}

// resolveKernel leaves out what a kernel package depends on to be installed.
func resolveKernel(ctx context.Context) ([]deb, error) {
	var failed error
	for _, name := range kernels {
		all, err := solve(ctx, []string{name})
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		return slices.DeleteFunc(all, func(d deb) bool {
			return d.Name == name || !strings.HasPrefix(d.Name, "linux-image-") && !strings.HasPrefix(d.Name, "linux-modules-")
		}), nil
	}
	return nil, failed
}

func solve(ctx context.Context, names []string) ([]deb, error) {
	out, err := apt(ctx, "", append([]string{"-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false", "-y", "--print-uris", "install"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("resolving %s (where apt doesn't know them, `apt-get update` helps): %w", strings.Join(names, " "), err)
	}
	var debs []deb
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "'") {
			continue
		}
		parts := strings.Split(fields[1], "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("apt names a file %q", fields[1])
		}
		version, err := url.PathUnescape(parts[1])
		if err != nil {
			return nil, fmt.Errorf("apt names a file %q: %w", fields[1], err)
		}
		debs = append(debs, deb{Name: parts[0], Version: version, File: fields[1]})
	}
	if len(debs) == 0 {
		return nil, fmt.Errorf("apt lists nothing for %s", strings.Join(names, " "))
	}
	return debs, nil
}

// download fetches those packages that aren't in dir yet, and removes from it
// those that nobody asks for any more.
func download(ctx context.Context, dir string, debs []deb) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	wanted := map[string]bool{}
	missing := []string{"download"}
	for _, d := range debs {
		wanted[d.File] = true
		if _, err := os.Stat(filepath.Join(dir, d.File)); err != nil {
			missing = append(missing, d.String())
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !wanted[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if len(missing) == 1 {
		return nil
	}
	if _, err := apt(ctx, dir, missing...); err != nil {
		return fmt.Errorf("downloading the packages of the virtual machine: %w", err)
	}
	return nil
}

// apt runs apt-get in dir without locks, without its shared cache and without
// changing to another user: it reads the host's lists and nothing else.
func apt(ctx context.Context, dir string, args ...string) (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{
		"-q", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=" + me.Username,
		"-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return run(cmd)
}

// run returns the standard output; the error holds what was complained of.
func run(cmd *exec.Cmd) (string, error) {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", cmd.Args[0], err, strings.TrimSpace(complaint.String()))
	}
	return string(out), err
}
