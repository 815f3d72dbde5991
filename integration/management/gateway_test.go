package management

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/integration/netns"
)

// What a gateway has of its manager, both the real program: roots of devices from
// when it joins, another certificate in time, its refusals in the manager's
// journal, and nobody new when no manager was heard from for long. All the while
// one session goes on.
//
//	dev1 (phones, simulated) -- gw1 -- manager,enrollment -- SQLite
func TestGatewayOfManager(t *testing.T) {
	t.Parallel() // it waits most of the time
	w := newWorld(t, "")
	servers := w.run("manager,enrollment", w.file, portEnrollMetrics, portDMMetrics)
	s := newStormOf(w, 1, ", unreachable: {after: 1m, then: refuse}")
	o := s.outposts[0]
	ctx := t.Context()
	for range 3 {
		s.invite()
	}
	for _, r := range s.roamers {
		r.join(ctx)
	}
	first, second, third := s.roamers[0], s.roamers[1], s.roamers[2]
	gw := func() api.Gateway {
		g, err := client.Call(ctx, s.manager, api.GatewayShow, &api.OneGateway{Gateway: o.name})
		w.must("", err)
		return g
	}
	w.until("the gateway is as it was committed", func() bool { return gw().Current }, func() string { return fmt.Sprintf("%+v", gw()) })
	for _, section := range gw().Sections {
		if section.Section == "trust" && (section.Has == "0.0" || section.Has != section.Wanted) {
			t.Errorf("the roots of devices aren't pushed: %+v", section)
		}
	}
	content, err := client.Call(ctx, s.manager, api.GatewayExport, &api.None{})
	w.must("", err)
	if !contains(content.YAML, "trust:", "roots:", "BEGIN CERTIFICATE") {
		t.Errorf("what gateways are told lacks the roots:\n%s", content.YAML)
	}

	w.must("", first.connect(ctx, o, false))
	finish := first.stream(ctx)
	sessions := func() []string {
		list, err := o.Sessions(ctx)
		w.must("", err)
		var ids []string
		for _, s := range list {
			ids = append(ids, s.Device+" "+s.ID)
		}
		slices.Sort(ids)
		return ids
	}
	before := sessions()

	// Its certificate is due: to the manager it was signed long ago.
	serial := func() (n []byte) {
		w.must("", w.db.QueryRowContext(ctx, `SELECT serial FROM gcm_certificate WHERE gateway = $1 ORDER BY until_us DESC LIMIT 1`, o.name).Scan(&n))
		return n
	}
	had, since := serial(), gw().Since
	if _, err := w.db.ExecContext(ctx, `UPDATE gcm_gateway SET certified_us = 0, attempt_us = 0 WHERE name = $1`, o.name); err != nil {
		t.Fatal(err)
	}
	w.until("it has another certificate", func() bool { return string(serial()) != string(had) })
	if g := gw(); !g.Connected || !g.Since.Equal(since) {
		t.Errorf("the connection was lost for its certificate: %+v", g)
	}
	if now := sessions(); !slices.Equal(now, before) {
		t.Errorf("sessions %v, before %v", now, before)
	}

	// Whoever was closed and tries is in the journal.
	_, err = w.admins.CloseDevice(ctx, second.name, "cessation-of-operation")
	w.must("", err)
	w.until("the closed device is refused", func() bool { err := second.connect(ctx, o, false); second.vanish(); return err != nil })
	events := func() (list []string) {
		page, err := client.Call(ctx, s.manager, api.GatewayEvents, &api.ListEvents{Device: second.name})
		w.must("", err)
		for _, e := range page.Items {
			list = append(list, e.Kind+" "+e.Reason)
		}
		return list
	}
	w.until("that is in the journal", func() bool { return strings.Contains(strings.Join(events(), "\n"), "device_refused") }, func() string { return fmt.Sprint(events()) })

	figures := func() string {
		r, err := http.Get("http://" + w.port(portDMMetrics) + "/metrics")
		w.must("", err)
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		w.must("", err)
		return string(body)
	}
	for _, want := range []string{
		`gatewayd_fleet_connected{gateway="gw1"} 1`, `gatewayd_fleet_sections_behind{gateway="gw1"} 0`,
		`gatewayd_fleet_behind_seconds{gateway="gw1"} 0`, `gatewayd_fleet_alerts{state="next_try"}`,
	} {
		if text := figures(); !strings.Contains(text, want) {
			t.Errorf("figures lack %s", want)
		}
	}

	// Versions are forgotten at the gateway, and the manager, which is connected all
	// the while, says what is next. The gateway itself says what it has.
	connected := gw().Since
	has := func() map[string]sectionEvidence {
		e, err := o.evidence(ctx)
		w.must("", err)
		return e.Sections
	}
	missing := func() (list []string) {
		wanted, sections := gw().Sections, has()
		for _, section := range wanted {
			if has := sections[section.Section].Version; has != section.Wanted {
				list = append(list, section.Section+" "+has+", wanted "+section.Wanted)
			}
		}
		return list
	}
	w.until("the gateway has all versions", func() bool { return len(missing()) == 0 }, func() string { return fmt.Sprint(missing()) })
	out, err := o.Command(ctx, "gateway", "forget-versions")
	w.must(out, err)
	if v := has()["trust"].Version; v != "0.1" {
		t.Errorf("the version of trust isn't forgotten: %s", v)
	}
	_, err = client.Call(ctx, s.manager, api.GatewayPush, &api.ChangeGateway{OneGateway: api.OneGateway{Gateway: o.name}})
	w.must("", err)
	w.until("the gateway has all versions again", func() bool { return len(missing()) == 0 }, func() string { return fmt.Sprint(missing()) })
	w.until("the manager knows", func() bool { return gw().Current }, func() string { return fmt.Sprintf("%+v", gw()) })
	if now := gw().Since; !now.Equal(connected) {
		t.Errorf("for that it connected again, at %v", now)
	}

	servers.kill()
	state := func(name string) bool {
		text, err := o.Metrics(ctx)
		w.must("", err)
		return strings.Contains(text, fmt.Sprintf("gatewayd_management_state{state=%q} 1", name))
	}
	w.must("", third.connect(ctx, o, false)) // what was pushed last holds
	third.vanish()
	w.until("newcomers are refused", func() bool { return state("refusing") })
	err = third.connect(ctx, o, false)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a newcomer without a manager: %v, and nobody should have answered", err)
	}
	dropped, err := o.Dropped(ctx, "close", "unattended")
	w.must("", err)
	if dropped == 0 {
		t.Error("newcomers that were refused aren't counted")
	}
	if now := sessions(); !slices.Contains(now, before[0]) {
		t.Errorf("sessions without a manager: %v, before %v", now, before)
	}
	servers.start()
	w.until("a manager is back", func() bool { return !state("refusing") })
	w.must("", third.connect(ctx, o, false))
	third.vanish()
	sent, lost := finish()
	t.Logf("%d packets, %d lost", sent, lost)
	if sent < 100 || lost > 0 {
		t.Errorf("%d packets of %d lost", lost, sent)
	}
	first.vanish()
}

// stream of pings from a device that is connected, until the returned function
// ends it and says how many were sent and not answered.
func (r *roamer) stream(ctx context.Context) func() (sent, lost int) {
	r.mu.Lock()
	d := r.up
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var sent, lost int
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			one, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			_, err := d.Ping(one, netns.LANHost, make([]byte, 56))
			stop()
			if sent++; err != nil {
				lost++
			}
			pause(ctx, 50*time.Millisecond)
		}
	}()
	return func() (int, int) {
		cancel()
		<-done
		return sent, lost
	}
}
