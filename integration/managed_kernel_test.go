package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// A gateway whose kernel forwards, with a manager: it joins, a device is released
// from quarantine and put back in mid-stream and no packet is lost, and with its
// revocation the kernel's SAs are gone.
//
//	dev1 (strongSwan, kernel ESP) --- gw (gatewayd, kernel ESP, managed) --- lan (the manager's place)
func TestXFRMManaged(t *testing.T) {
	var m *managed
	s := inKernel(t, options{configure: func(s *scenario) {
		m = newManager(t, s)
		s.conf.Pools, s.conf.Networks = nil, nil
		s.conf.Management = m.section(t, "gw1", firstInside, "")
	}})
	s.services(t)
	m.join(t, "gw1", firstInside, s.top.LAN)
	m.begin(t, "gw1")
	m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "quarantine", "10.9.0.77")}, nil, "gw1")
	phone := s.root.device(t, "phone", keyECDSA(t))
	client := s.client(t, s.top.Devices[0], phone)
	address := s.connect(t, client)
	if address.String() != "10.9.0.77" {
		t.Errorf("phone has %v, was assigned 10.9.0.77", address)
	}
	if status, err := s.gw.Status(s.ctx); err != nil || status.Backend != "xfrm" {
		t.Fatalf("the gateway forwards with %q, %v", status.Backend, err)
	}
	port := uint16(6000)
	reaches := func(step string, want bool) {
		t.Helper()
		patience := 10 * time.Second
		if !want {
			patience = 300 * time.Millisecond
		}
		port++
		another := udp(t, client.Namespace(), netip.AddrPortFrom(address, port))
		if got := echo(t, another, closedPort, patience); got != want {
			t.Errorf("%s: it reaches what staff may: %t", step, got)
		}
	}
	finish := stream(t, udp(t, client.Namespace(), netip.AddrPortFrom(address, 6000)), openPort)
	before := s.sessions(t)[0]
	reaches("in quarantine", false)
	for range 2 {
		m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "staff", "10.9.0.77")}, nil, "gw1")
		reaches("released", true)
		m.commit(t, gcm.Devices, []gcm.Record{authorised("phone", "quarantine", "10.9.0.77")}, nil, "gw1")
		reaches("put back", false)
	}
	sent, lost := finish()
	t.Logf("%d packets, %d lost", sent, lost)
	if sent < 50 || lost > 0 {
		t.Errorf("%d packets of %d lost", lost, sent)
	}
	if now := s.sessions(t)[0]; now.ID != before.ID || len(now.Children) != 1 || now.Children[0] != before.Children[0] {
		t.Errorf("session %+v, was %+v", now, before)
	}
	if n, said := s.kernelSAs(t); n != 2 {
		t.Errorf("%d SAs in the kernel, want 2:\n%s", n, said)
	}
	s.allKnown(t)
	m.commit(t, gcm.Devices, []gcm.Record{gcm.Revocation{
		Issuer: spki(t, s.root.cert.PublicKey), Serial: string(phone.cert.SerialNumber.Bytes()), Reason: 1, At: time.Now(),
	}.Record()}, nil, "gw1")
	s.eventually(t, "the end of the session and of the kernel's SAs", func() (bool, string) {
		n, said := s.kernelSAs(t)
		list := s.sessions(t)
		return n == 0 && len(list) == 0, fmt.Sprint(list, said)
	})
	s.fails(t, s.ticketed(s.top.Devices[0], phone, nil))
}

// kernelSAs of the gateway, for ESP, and what the kernel says of them.
func (s *scenario) kernelSAs(t *testing.T) (int, string) {
	t.Helper()
	said, err := s.top.Gateway.Run(s.ctx, s.command("ip", "xfrm", "state"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(said), "proto esp"), string(said)
}
