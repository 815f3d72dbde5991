package link

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// ownSysfs shows the interfaces of this thread's namespace in /sys.
func ownSysfs(t *testing.T) {
	t.Helper()
	for _, err := range []error{
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The recipe is put in place and taken back, what an administrator changed
// meanwhile stays, and a run that died is cleaned up after.
func TestBundles(t *testing.T) {
	topology(t)
	ownSysfs(t)
	journal := journalPath(t)
	c := dualStack(journal)
	c.Bundles = true
	device := createTUN(t)
	before, err := ReadGRO(external)
	if err != nil {
		t.Fatal(err)
	}
	if before != (GRO{FlushTimeout: "0", DeferHardIRQs: "0"}) {
		t.Fatalf("a new interface has %+v", before)
	}
	inPlace := GRO{Forwarding: true, FlushTimeout: "50000", DeferHardIRQs: "2"}
	want := func(want GRO) {
		t.Helper()
		if got, err := ReadGRO(external); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	h, err := Setup(c)
	if err != nil {
		t.Fatal(err)
	}
	want(inPlace)
	if err := writeSysfs(external, groDefer, "7"); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	want(GRO{FlushTimeout: "0", DeferHardIRQs: "7"})
	if err := writeSysfs(external, groDefer, "0"); err != nil {
		t.Fatal(err)
	}

	// A run that ends without a word.
	if h, err = Setup(c); err != nil {
		t.Fatal(err)
	}
	want(inPlace)
	h.lock.Close()
	device.Close()
	if err := Recover(journal); err != nil {
		t.Fatal(err)
	}
	want(before)
	if _, err := os.Lstat(journal); !os.IsNotExist(err) {
		t.Errorf("the journal is left: %v", err)
	}
}

func TestInterfacePaths(t *testing.T) {
	for path, good := range map[string]bool{
		"eth0/gro_flush_timeout": true, "eth0/napi_defer_hard_irqs": true, "eth0/rx-udp-gro-forwarding": true,
		"eth0/mtu": false, "../gro_flush_timeout": false, "eth0/../gro_flush_timeout": false, "/gro_flush_timeout": false, "gro_flush_timeout": false,
	} {
		for _, k := range []kind{kindSysfs, kindFeature} {
			if err := (change{Kind: k, Path: path}).validate(); (err == nil) != good {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
