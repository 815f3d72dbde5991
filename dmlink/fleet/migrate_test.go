package fleet_test

import (
	"testing"

	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// Gateways of earlier versions are known by their certificates, and one whose
// revocation got lost, because it was renewed at that moment, is revoked.
func TestVersions(t *testing.T) {
	databasetest.Versions(t, fleet.Tables, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db)
		f, err := fleet.New(t.Context(), db, w.options(t))
		must(t, err)
		revoked := func() map[string]bool {
			all, err := f.Gateways(t.Context())
			must(t, err)
			list := map[string]bool{}
			for _, g := range all {
				list[g.Name] = g.Revoked
			}
			return list
		}
		list := revoked()
		if len(list) != 3 || !list["lost"] || list["superseded"] {
			t.Errorf("revoked are %v", list)
		}
		after, err := f.Cursor(t.Context())
		must(t, err)
		for range after {
			w.outbox.tell(closed(99)) // what was told before
		}
		w.outbox.tell(fleet.Entry{Kind: fleet.Revoked, Serial: "\xa1", Reason: 1})
		must(t, f.Follow(t.Context()))
		if !revoked()["good"] {
			t.Error("its certificate isn't known")
		}
	})
}
