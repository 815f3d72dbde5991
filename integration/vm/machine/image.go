package machine

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// aptLists is where apt keeps what it knows of archives.
const aptLists = "/var/lib/apt/lists"

// recipe is raised when images are made in another way from the same packages
// and lists.
const recipe = 1

// Image is a kernel and the tree of a guest, in a cache.
type Image struct {
	// Kernel is a bzImage, Root an initramfs without the guest's first process.
	Kernel, Root string
	// Packages in the versions that the image holds, as name=version.
	Packages []string
}

// Build returns the image of the packages' present versions from the cache, or
// makes it: about 60 MB are downloaded, 400 MB of disk used on the way and half
// of that afterwards. Nothing is installed on the host, and no root needed.
// Cache is a folder of its own, shared with other processes.
func Build(ctx context.Context, cache string) (*Image, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	debs, err := resolved(ctx, filepath.Join(cache, "resolved.json"))
	if err != nil {
		return nil, err
	}
	image := &Image{}
	key := sha256.New()
	fmt.Fprintln(key, recipe, debs, programs, folders, loaded, librarySpots, moduleFolders, hardware, written, links)
	for _, d := range debs {
		image.Packages = append(image.Packages, d.String())
	}
	dir := filepath.Join(cache, fmt.Sprintf("image-%x", key.Sum(nil)[:8]))
	image.Kernel, image.Root = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "root.cpio")
	if _, err := os.Stat(image.Root); err == nil {
		return image, nil
	}
	if err := download(ctx, filepath.Join(cache, "debs"), debs); err != nil {
		return nil, err
	}
	if err := makeImage(ctx, cache, dir, debs); err != nil {
		return nil, fmt.Errorf("making the image of the virtual machine: %w", err)
	}
	return image, removeOld(cache, dir)
}

// lock waits for other processes that build in the same cache.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// resolution is what apt made of the names of packages when its lists were
// these; asking it again takes seconds.
type resolution struct {
	Asked string
	Files []deb
}

func resolved(ctx context.Context, path string) ([]deb, error) {
	asked := fmt.Sprint(kernels, userland)
	entries, err := os.ReadDir(aptLists)
	if err != nil {
		return nil, fmt.Errorf("the virtual machine is made from packages of Debian or Ubuntu: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() {
			asked += fmt.Sprint(e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	asked = fmt.Sprintf("%x", sha256.Sum256([]byte(asked)))
	var known resolution
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &known) == nil && known.Asked == asked {
		return known.Files, nil
	}
	debs, err := resolve(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(resolution{asked, debs}, "", " ")
	if err != nil {
		return nil, err
	}
	return debs, os.WriteFile(path, b, 0o644)
}

// makeImage works beside dir, which appears complete or not at all.
func makeImage(ctx context.Context, cache, dir string, debs []deb) error {
	work, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	unpacked := filepath.Join(work, "unpacked")
	for _, d := range debs {
		if _, err := run(exec.CommandContext(ctx, "dpkg-deb", "-x", filepath.Join(cache, "debs", d.File), unpacked)); err != nil {
			return err
		}
	}
	tree, err := collect(ctx, unpacked)
	if err != nil {
		return err
	}
	kernel, err := tree.addModules(ctx)
	if err != nil {
		return err
	}
	out := filepath.Join(work, "image")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	if err := os.Rename(kernel, filepath.Join(out, "vmlinuz")); err != nil {
		return err
	}
	if err := writeRoot(filepath.Join(out, "root.cpio"), tree); err != nil {
		return err
	}
	return os.Rename(out, dir)
}

// writeRoot doesn't compress: the guest would take longer to decompress than
// QEMU to copy.
func writeRoot(path string, tree *root) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	a := &archive{w: w}
	err = tree.write(a)
	return errors.Join(err, a.close(), w.Flush(), f.Close())
}

// removeOld removes images of earlier versions, and what interrupted builds
// left, but none that another process may just have been given.
func removeOld(cache, current string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(cache, e.Name())
		info, err := e.Info()
		ours := slices.ContainsFunc([]string{"image-", "making-"}, func(p string) bool { return strings.HasPrefix(e.Name(), p) })
		if err != nil || !ours || path == current || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
