package management

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// A backup is made while the servers run, and is put in place when they were
// lost: what a device has done since isn't asked for again.
func TestBackupAndRestore(t *testing.T) {
	w := newWorld(t, "")
	p := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	d := w.enroll("phone-1")
	w.until("the device is managed", func() bool {
		_, err := w.store.Device(t.Context(), d.name)
		return err == nil
	})
	id, _, err := w.store.Put(t.Context(), store.Task{
		Kind: "test", By: "alice", Created: time.Now(), Expires: time.Now().Add(time.Hour), Semantics: session.OnceOnly,
		Command: &syncml.Op{Verb: syncml.Exec, Items: []syncml.Item{{Target: syncml.Location{URI: "./Vendor/MSFT/RemoteLock/Lock"}}}},
	}, d.name)
	w.must("", err)
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.must(w.command("database", "backup", backup, "--config", w.file))
	if out, err := w.command("database", "backup", backup, "--config", w.file); err == nil {
		t.Errorf("a backup was written over:\n%s", out)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info, err)
	}
	if err := d.come(); err != nil || d.locked.Load() != 1 {
		t.Fatalf("locked %d times, %v", d.locked.Load(), err)
	}
	if out, err := w.command("database", "restored", "--config", w.file); err == nil || !contains(out, "is running", "runtime_dir") {
		t.Errorf("while the manager runs: %v\n%s", err, out)
	}
	p.kill()
	w.must("", w.db.Close())
	file := filepath.Join(w.dir, "enrollment", "enrollment.db")
	for _, name := range []string{file + "-wal", file + "-shm"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.must("", copyFile(backup, file))
	if out := w.must(w.command("database", "restored", "--config", w.file)); !contains(out, "1 commands") {
		t.Errorf("said:\n%s", out)
	}
	p.start()
	if err := d.come(); err != nil || d.locked.Load() != 1 {
		t.Errorf("after the restore: locked %d times, %v", d.locked.Load(), err)
	}
	w.open()
	all, err := w.store.CommandsOfTask(t.Context(), id, "", 0)
	if err != nil || len(all) != 1 || all[0].State != store.Unknown {
		t.Errorf("commands %+v, %v", all, err)
	}
}
