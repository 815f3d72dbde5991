package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// perSite devices are in each unit of TestSoakScale, at most.
const perSite = 100_000

func sites(devices int) int { return (devices + perSite - 1) / perSite }

// inventoryOf is what dm_inventory has of a device with 200 nodes.
func inventoryOf(t *testing.T, db *database.DB) (snapshot, facts []byte) {
	s := storetest.Store(t, db, nil)
	if err := s.Enroll(t.Context(), store.Device{Name: "model", Enrolled: storetest.Noon}); err != nil {
		t.Fatal(err)
	}
	u := inventory.Update{At: storetest.Noon}
	for i := range 200 {
		u.Values = append(u.Values, session.Value{URI: fmt.Sprint("./DevDetail/Ext/node", i), Data: fmt.Append(nil, "value of node ", i)})
	}
	u.Values = append(u.Values, session.Value{URI: "./DevInfo/Mod", Data: []byte("X1")})
	if _, err := inventory.NewKeeper(s.Inventories()).Record(t.Context(), "model", u); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), `SELECT snapshot, facts FROM dm_inventory WHERE device_name = 'model'`).Scan(&snapshot, &facts); err != nil {
		t.Fatal(err)
	}
	return snapshot, facts
}

// rollout of policies to the devices of one site: how long it takes until each
// has its commands.
func rollout(t *testing.T, s *store.SQL, devices int) {
	ctx := t.Context()
	e := policy.NewEngine(s.Policies(), policy.Config{})
	if _, err := e.Refresh(ctx, 10); err != nil { // the model
		t.Fatal(err)
	}
	document := func(value, filter string) policy.Document {
		set := policy.Set{Name: "base", Filter: filter}
		for i := range 3 {
			set.Settings = append(set.Settings, policy.Setting{URI: fmt.Sprint("./Vendor/X/Setting", i), Data: "fixed"})
		}
		set.Settings[0].Data = value
		return policy.Document{Sets: []policy.Set{set}, Links: []policy.Link{{Unit: "corp/site0", Set: "base", Order: 1}}}
	}
	for number, c := range []struct {
		name, value, filter string
	}{
		{"a new set of three settings", "one", ""},
		{"another value of one, before anybody came", "two", ""},
		{"a filter over the inventory", "three", `inventory.value("./DevInfo/Mod") == "X1"`},
	} {
		d := document(c.value, c.filter)
		began := time.Now()
		plan, err := e.Plan(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		planned := time.Since(began)
		began = time.Now()
		if _, err := e.Apply(ctx, d, int64(number), "alice", ""); err != nil {
			t.Fatal(err)
		}
		applied, total := time.Since(began), 0
		for {
			n, err := e.Refresh(ctx, 500)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			total += n
		}
		all := time.Since(began)
		t.Logf("%-44s plan %v, apply %v, until all %d have their commands %v (%.0f a second)", c.name,
			planned.Round(time.Millisecond), applied.Round(time.Millisecond), total, all.Round(time.Millisecond), float64(total)/all.Seconds())
		if want := devices / sites(devices); total != want || plan.Touched != want {
			t.Errorf("%d devices were computed, %d planned, want %d", total, plan.Touched, want)
		}
		device := fmt.Sprint("device", sites(devices))
		m, err := s.Policies().Device(ctx, device)
		if err != nil || len(m.State.Commands) != 3 || m.State.Commands[0].Changes[0].Setting.Data != c.value {
			t.Errorf("state %+v, %v", m.State, err)
		}
		waits := 0
		commands, err := s.CommandsOfDevice(ctx, device, 0, 3)
		for _, one := range commands {
			if one.State == store.Waiting && one.Task[:7] == "policy/" {
				waits++
			}
		}
		if err != nil || waits != 3 {
			t.Errorf("%+v wait, %v", commands, err)
		}
	}
}
