package management

import (
	"errors"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/integration/postgres"
)

// A device's whole life: it enrolls, comes by its certificate where it was told
// to, is locked, wiped, closed and refused; enrolled anew it is let in again.
//
//	phone -- gatewayd run manager,enrollment -- SQLite
func TestLifeInOneProcess(t *testing.T) {
	w := newWorld(t, "")
	p := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	life(w, func(string) {})
	if out := w.must(w.command("status", "--config", w.file)); !contains(out, "ready", "sqlite", "enrollment, manager") {
		t.Errorf("status:\n%s", out)
	}
	p.kill()
}

// The same where each role is a process of its own, and each dies between any two
// steps.
//
//	phone -- enrollment -- PostgreSQL -- manager, manager
func TestLifeInManyProcesses(t *testing.T) {
	db := postgres.Start(t)
	w := newWorld(t, db.Name(db.Create(t)))
	enrollment := w.run("enrollment", w.file, portEnrollMetrics)
	managers := []*process{w.run("manager", w.file, portDMMetrics), w.run("manager", w.secondManager(), portDMMetrics+second)}
	victims := append([]*process{enrollment}, managers...)
	n := 0
	life(w, func(step string) {
		v := victims[n%len(victims)]
		n++
		t.Logf("after %q %s is killed", step, v.roles)
		v.kill()
		v.start()
	})
}

// secondManager has files of its own but for keys and certificates.
func (w *world) secondManager() string {
	w.t.Helper()
	file := w.dir + "/second.yaml"
	w.must("", copyFile(w.file, file))
	w.edit(file, w.port(portDM)+`"`, w.port(portDM+second)+`"`, w.port(portDMAdmin)+`"`, w.port(portDMAdmin+second)+`"`,
		w.port(portDMMetrics), w.port(portDMMetrics+second), "  runtime_dir: run", "  runtime_dir: run2", `name: "manager"`, `name: "second"`)
	return file
}

func life(w *world, between func(step string)) {
	t := w.t
	// A device by itself says where it goes and when.
	d := w.enroll("phone-1")
	if d.told.Management != "https://"+w.port(portDM)+"/dm" || d.told.ManagementID != "Roamgate" || d.told.ManagementFirst != 180 {
		t.Errorf("told %+v", d.told)
	}
	between("enrolled")
	d.comesIn()
	v, err := w.store.Device(t.Context(), "phone-1")
	if err != nil || !v.Open || v.User != "bob" || len(v.Groups) != 1 || v.Groups[0] != "sales" {
		t.Errorf("device %+v, %v", v, err)
	}

	lock := w.place("lock", "phone-1")
	between("a task was placed")
	d.comesIn()
	w.succeeded(lock)
	if n := d.locked.Load(); n != 1 {
		t.Errorf("locked %d times", n)
	}

	wiped := w.place("wipe", "phone-1")
	between("a wipe was placed")
	d.comesIn()
	w.succeeded(wiped)
	// From the moment of its answer on, whatever is still to be done.
	d.refused("wiped", d.come())
	between("wiped")
	w.until("its account is closed at enrollment", func() bool {
		v, err := w.admins.Device(t.Context(), "phone-1")
		return err == nil && !v.Open
	})
	between("closed")
	first := d.joined.Certificate
	w.until("its certificate is on the list", func() bool { return w.listed(first) })
	d.refused("closed", d.come())

	// Found again: the wipe of then is none of its business, nor is the
	// certificate of then good.
	old := d.certificate()
	d.enroll()
	between("enrolled anew")
	d.comesIn()
	d.refused("by the certificate of then", d.at(d.told.Management, old))
	time.Sleep(keeperPasses)
	if v, err := w.admins.Device(t.Context(), "phone-1"); err != nil || !v.Open {
		t.Errorf("enrolled anew, and closed: %+v, %v", v, err)
	}
	d.comesIn()
	entries, err := dm.ReadJournal(d.journal)
	if err != nil {
		t.Fatal(err)
	}
	wipes := 0
	for _, e := range entries {
		if e.URI == "./Vendor/MSFT/RemoteWipe/doWipe" {
			wipes++
		}
	}
	if wipes != 1 {
		t.Errorf("wiped %d times", wipes)
	}

	// An administrator closes it at enrollment: device management follows.
	if _, err := w.admins.CloseDevice(t.Context(), "phone-1", "cessation-of-operation"); err != nil {
		t.Fatal(err)
	}
	between("closed by an administrator")
	w.until("device management has closed it", func() bool {
		v, err := w.store.Device(t.Context(), "phone-1")
		return err == nil && !v.Open
	})
	// The other manager, if it is asked, hears of it by its own clock.
	w.until("it is refused", func() bool { return errors.Is(d.come(), dm.ErrStatus) })
}

// keeperPasses: a wipe that would be done again would be done within this.
const keeperPasses = 3 * time.Second
