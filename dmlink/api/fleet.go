package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
)

// Fleet is fleet.Fleet: gateways, and devices as they know them.
type Fleet interface {
	Status(ctx context.Context) ([]fleet.Status, error)
	AddGateway(ctx context.Context, g push.Gateway, known push.Fingerprint) error
	RemoveGateway(ctx context.Context, name string) error
	Push(ctx context.Context, name string) error
	Drain(ctx context.Context, name string, d fleet.Drain) (now bool, err error)
	BumpEpoch(ctx context.Context) (uint64, error)
	Sessions(ctx context.Context, gateway, after string, limit int) ([]fleet.Session, error)
	Events(ctx context.Context, device, gateway string, before int64, limit int) ([]fleet.Event, error)
	Content(ctx context.Context) (fleet.Content, error)
	SetContent(ctx context.Context, c fleet.Content) error
	Where(ctx context.Context, device string) ([]fleet.Session, error)
	EndSessions(ctx context.Context, device string) (int, error)
	Device(ctx context.Context, name string) (fleet.Device, error)
	SetCompliant(ctx context.Context, device string, compliant bool) error
	SetGroup(ctx context.Context, device, group string) error
	SetBarred(ctx context.Context, device string, barred bool) error
}

var _ Fleet = (*fleet.Fleet)(nil)

func (s *api) gateways() {
	bind(s, GatewayList, func(ctx context.Context, _ *Call, _ *None) (Page[Gateway], error) {
		all, err := s.Fleet.Status(ctx)
		p := Page[Gateway]{Items: []Gateway{}}
		for _, g := range all {
			short := gatewayOf(g)
			short.Sections = nil
			p.Items = append(p.Items, short)
		}
		return p, err
	})
	bind(s, GatewayShow, func(ctx context.Context, _ *Call, in *OneGateway) (Gateway, error) { return s.gateway(ctx, in.Gateway) })
	bind(s, GatewayAdd, s.addGateway)
	bind(s, GatewayRemove, func(ctx context.Context, _ *Call, in *ChangeGateway) (Done, error) {
		return Done{true}, s.Fleet.RemoveGateway(ctx, in.Gateway)
	})
	bind(s, GatewayPush, func(ctx context.Context, _ *Call, in *ChangeGateway) (Done, error) {
		return Done{true}, s.Fleet.Push(ctx, in.Gateway)
	})
	bind(s, GatewayDrain, func(ctx context.Context, _ *Call, in *DrainGateway) (Drained, error) {
		now, err := s.Fleet.Drain(ctx, in.Gateway, fleet.Drain{On: true, To: in.Body.To, Within: in.Body.Within})
		return Drained{now}, err
	})
	bind(s, GatewayUndrain, func(ctx context.Context, _ *Call, in *ChangeGateway) (Drained, error) {
		now, err := s.Fleet.Drain(ctx, in.Gateway, fleet.Drain{})
		return Drained{now}, err
	})
	bind(s, GatewayEpoch, func(ctx context.Context, _ *Call, _ *NewEpoch) (Epoch, error) {
		n, err := s.Fleet.BumpEpoch(ctx)
		return Epoch{n}, err
	})
	bind(s, GatewaySessions, func(ctx context.Context, _ *Call, in *ListSessions) (Page[Session], error) {
		list, err := s.Fleet.Sessions(ctx, in.Gateway, in.After, in.Limit)
		p := Page[Session]{Items: []Session{}}
		if len(list) == in.Limit {
			// The next page begins behind a device: the last one may have more.
			last := slices.IndexFunc(list, func(v fleet.Session) bool { return v.Device == list[len(list)-1].Device })
			if last > 0 {
				list = list[:last]
			}
			p.Next = list[len(list)-1].Device
		}
		for _, v := range list {
			p.Items = append(p.Items, sessionOf(v))
		}
		return p, err
	})
	bind(s, GatewayEvents, func(ctx context.Context, _ *Call, in *ListEvents) (Page[Event], error) {
		return numbered(ctx, in.Paging, func(ctx context.Context, before int64, limit int) ([]fleet.Event, error) {
			return s.Fleet.Events(ctx, in.Device, in.Gateway, before, limit)
		}, eventOf, func(e fleet.Event) int64 { return e.ID })
	})
	bind(s, GatewayExport, func(ctx context.Context, _ *Call, _ *None) (GatewayContent, error) {
		c, err := s.Fleet.Content(ctx)
		if err != nil {
			return GatewayContent{}, err
		}
		var b strings.Builder
		err = fleet.WriteContent(&b, c)
		return GatewayContent{b.String()}, err
	})
	bind(s, GatewayImport, func(ctx context.Context, _ *Call, in *SetContent) (Done, error) {
		c, err := fleet.ReadContent(strings.NewReader(in.Body.YAML))
		if err != nil {
			return Done{}, err
		}
		return Done{true}, s.Fleet.SetContent(ctx, c)
	})
	s.whereabouts()
}

func (s *api) whereabouts() {
	bind(s, DeviceWhere, func(ctx context.Context, _ *Call, in *OneDevice) (Page[Session], error) {
		list, err := s.Fleet.Where(ctx, in.Device)
		return pageOf(list, len(list), sessionOf, nil), err
	})
	bind(s, DeviceDisconnect, func(ctx context.Context, _ *Call, in *EndSessions) (Ended, error) {
		n, err := s.Fleet.EndSessions(ctx, in.Device)
		return Ended{n}, err
	})
	bind(s, DeviceAccess, func(ctx context.Context, _ *Call, in *OneDevice) (Access, error) {
		d, err := s.Fleet.Device(ctx, in.Device)
		return accessOf(d), err
	})
	bind(s, DeviceAuthorise, func(ctx context.Context, _ *Call, in *SetAccess) (Access, error) {
		var err error
		if in.Body.Group != nil {
			err = s.Fleet.SetGroup(ctx, in.Device, *in.Body.Group)
		}
		if err == nil && in.Body.Held != nil {
			err = s.Fleet.SetCompliant(ctx, in.Device, !*in.Body.Held)
		}
		if err == nil && in.Body.Barred != nil {
			err = s.Fleet.SetBarred(ctx, in.Device, *in.Body.Barred)
		}
		if err != nil {
			return Access{}, err
		}
		d, err := s.Fleet.Device(ctx, in.Device)
		return accessOf(d), err
	})
}

func (s *api) addGateway(ctx context.Context, _ *Call, in *AddGateway) (Gateway, error) {
	address, err := netip.ParseAddrPort(in.Body.Address)
	if err != nil {
		return Gateway{}, fmt.Errorf("%w: address: %w", fleet.ErrInvalid, err)
	}
	var known push.Fingerprint
	text := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(in.Body.Fingerprint), "sha256:"), ":", "")
	if n, err := hex.Decode(known[:], []byte(text[:min(len(text), 2*len(known))])); err != nil || n != len(known) || len(text) != 2*len(known) {
		return Gateway{}, fmt.Errorf("%w: a fingerprint has %d hexadecimal digits", fleet.ErrInvalid, 2*len(known))
	}
	g := push.Gateway{Name: in.Body.Name, Host: in.Body.Host, Address: address}
	if err := s.Fleet.AddGateway(ctx, g, known); err != nil {
		if errors.Is(err, fleet.ErrInvalid) || errors.Is(err, fleet.ErrExists) {
			return Gateway{}, err
		}
		return Gateway{}, newProblem(http.StatusBadGateway, err.Error(),
			"Compare address and fingerprint with what the gateway shows when it starts, and see whether this host reaches that port.")
	}
	return s.gateway(ctx, g.Name)
}

func (s *api) gateway(ctx context.Context, name string) (Gateway, error) {
	all, err := s.Fleet.Status(ctx)
	if err != nil {
		return Gateway{}, err
	}
	for _, g := range all {
		if g.Gateway.Name == name {
			return gatewayOf(g), nil
		}
	}
	return Gateway{}, fmt.Errorf("gateway %q: %w", name, fleet.ErrNotFound)
}

func gatewayOf(s fleet.Status) Gateway {
	g := Gateway{
		Name: s.Gateway.Name, Address: s.Gateway.Address.String(), Host: s.Gateway.Host, Fingerprint: hex.EncodeToString(s.Fingerprint[:]),
		Added: s.Added, Certificate: s.Expires, Connected: s.Connected, Since: s.Since, Trouble: s.Err,
		Software: s.State.Software, Build: s.State.Build, Health: string(s.State.Health), Problems: s.State.Problems,
		Sessions: s.State.Sessions, MaxSessions: s.State.MaxSessions, Events: s.Events, Disbelieved: s.Disbelieved,
		Draining: s.Gateway.Drain.On, DrainTo: s.Gateway.Drain.To, Current: s.Connected && len(s.Drift) == 0,
	}
	if !s.Connected {
		g.Sessions = 0
	}
	for _, v := range s.Versions {
		g.Sections = append(g.Sections, Section{string(v.Section), v.Has.String(), v.Wanted.String()})
	}
	for _, d := range s.Drift {
		text := fmt.Sprintf("%s: has %v, committed is %v", d.Section, d.Has, d.Wanted)
		if len(d.Reasons) > 0 {
			text += ": " + strings.Join(d.Reasons, "; ")
		}
		g.Drift = append(g.Drift, text)
	}
	return g
}

func sessionOf(v fleet.Session) Session {
	s := Session{Device: v.Device, Gateway: v.Gateway, Session: v.Session, Since: v.Since, Addresses: texts(v.Addresses)}
	if v.Peer.IsValid() {
		s.Peer = v.Peer.String()
	}
	return s
}

func texts(list []netip.Addr) []string {
	all := []string{}
	for _, a := range list {
		all = append(all, a.String())
	}
	return all
}

func eventOf(e fleet.Event) Event {
	v := Event{
		ID: e.ID, At: e.At, Gateway: e.Gateway, Kind: string(e.Kind), Device: e.Device, Session: e.Session,
		Reason: e.Reason, Count: e.Count, Sums: e.Sums,
	}
	if e.Peer.IsValid() {
		v.Peer = e.Peer.String()
	}
	return v
}

func accessOf(d fleet.Device) Access {
	return Access{Device: d.Name, Group: d.Group, Held: d.Held, Barred: d.Barred, Enrolled: d.Enrolled, Addresses: texts(d.Addresses)}
}
