package fleet_test

import (
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
)

// restored: the database goes back to a backup. Gateways that are ahead are left
// as they are, and reported, until somebody begins a new epoch; then they have
// what is in the backup.
func restored(t *testing.T, w *world) {
	f, stop := w.manager(t, nil)
	w.outbox.tell(enrolled(1))
	must(t, f.Follow(t.Context()))
	g := w.join(t, f, "gateway-1")[0]
	eventually(t, "the gateway has it", func() bool { return f.Documents().Len(gcm.Devices) == 1 && g.same(f) })
	backup := w.backup(t)
	w.outbox.tell(enrolled(2))
	must(t, f.Follow(t.Context()))
	must(t, f.SetGroup(t.Context(), name(1), "sales"))
	eventually(t, "it has more", func() bool { return f.Documents().Len(gcm.Devices) == 2 && g.same(f) })
	// What enrollment has is restored, too.
	w.outbox.entries = w.outbox.entries[:1]
	backup()
	eventually(t, "the manager notices", f.Restored)
	stop()
	f, _ = w.manager(t, nil)
	devices := func() (d fleet.Drift) {
		all, err := f.Status(t.Context())
		must(t, err)
		for _, s := range all {
			for _, one := range s.Drift {
				if one.Section == gcm.Devices && len(one.Reasons) > 0 {
					d = one
				}
			}
		}
		return d
	}
	eventually(t, "it is reported", func() bool { return devices().Has.Compare(devices().Wanted) > 0 })
	must(t, f.SetCompliant(t.Context(), name(1), false))
	if group, _ := authorised(t, g, name(1)); group != "sales" {
		t.Errorf("a gateway that is ahead was changed: %q", group)
	}
	epoch, err := f.BumpEpoch(t.Context())
	if err != nil || epoch != 2 {
		t.Errorf("epoch %d, %v", epoch, err)
	}
	eventually(t, "the gateway has what is in the backup", func() bool { return g.same(f) })
	if _, known := authorised(t, g, name(2)); known {
		t.Error("it still has what isn't in the backup")
	}
	if group, _ := authorised(t, g, name(1)); group != "quarantine" {
		t.Errorf("the device is in %q", group)
	}
}

// backup keeps all rows beside the tables; what it returns puts them back.
func (w *world) backup(t *testing.T) (restore func()) {
	t.Helper()
	tables := []string{"gcm_section", "gcm_change", "gcm_cursor", "gcm_device", "gcm_address", "gcm_gateway", "gcm_certificate"}
	do := func(text string) {
		t.Helper()
		if _, err := w.db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range tables {
		do("CREATE TABLE backup_" + table + " AS SELECT * FROM " + table)
	}
	return func() {
		t.Helper()
		text := "BEGIN;"
		for _, table := range tables {
			text += "DELETE FROM " + table + "; INSERT INTO " + table + " SELECT * FROM backup_" + table + ";"
		}
		do(text + "COMMIT;")
	}
}
