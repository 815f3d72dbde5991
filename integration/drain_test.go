package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/integration/netns"
)

// ended waits for the end of a device and says why it was.
func (s *scenario) ended(t *testing.T, d *device.Device) ike.CloseReason {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	_, err := d.Await(ctx, func(device.Info) bool { return false })
	var closed *device.ClosedError
	if !errors.As(err, &closed) {
		t.Fatalf("a device of a gateway that is drained: %v", err)
	}
	return closed.Reason
}

// A gateway ends in such a way that its devices go one after the other: to
// another gateway by redirection, or where there is none, to their next one.
// Nobody else gets in meanwhile.
//
//	dev1, dev2, dev3 (simulated) -- gw (gatewayd, stop --drain)
func TestDrain(t *testing.T) {
	s := newScenario(t, options{devices: 3})
	for round, c := range []struct {
		to     string
		reason ike.CloseReason
	}{{"", ike.ClosePeerDeleted}, {"gw2.example", ike.CloseRedirected}} {
		var devices []*device.Device
		for i, name := range []string{"dev1", "dev2"} {
			d, _ := s.simulate(t, s.ticketed(s.top.Devices[i], s.root.device(t, name, keyECDSA(t)), nil))
			devices = append(devices, d)
		}
		stopped := make(chan error, 1)
		args, patience := []string{"stop", "--drain", "8s"}, time.Second
		if c.to != "" {
			args, patience = []string{"stop", "--drain", "12s", "--to", c.to}, 6*time.Second
		}
		var said string
		go func() {
			out, err := s.gw.Command(s.ctx, args...)
			said = out
			stopped <- err
		}()
		s.eventually(t, "the gateway to be drained", func() (bool, string) {
			return strings.Count(s.gw.Log(), `msg="gateway is being drained"`) == round+1, s.gw.LogTail(3)
		})
		late := s.newcomer(t, s.top.Devices[2], patience)
		if c.to == "" && !errors.Is(late, context.DeadlineExceeded) {
			t.Errorf("a device that comes late: %v, want no answer", late)
		}
		var closed *device.ClosedError
		if c.to != "" && (!errors.As(late, &closed) || closed.Reason != ike.CloseRedirected) {
			t.Errorf("a device that comes late: %v, want that it is sent away", late)
		}
		for i, d := range devices {
			if reason := s.ended(t, d); reason != c.reason {
				t.Errorf("dev%d ended with %s, want %s", i+1, reason, c.reason)
			}
		}
		if err := <-stopped; err != nil {
			t.Errorf("stop: %v", err)
		}
		if !strings.Contains(said, "draining") || !strings.Contains(said, "stopped") {
			t.Errorf("the command said %q", said)
		}
		select {
		case <-s.gw.Done():
		case <-s.ctx.Done():
			t.Fatal("gatewayd is still there")
		}
		s.noTraces(t)
		s.start()
	}
}

// newcomer tries to connect for a while.
func (s *scenario) newcomer(t *testing.T, dev netns.Device, patience time.Duration) error {
	t.Helper()
	return s.comes(t, s.ticketed(dev, s.root.device(t, "dev3", keyECDSA(t)), nil), patience)
}
