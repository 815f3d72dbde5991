package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/store"
)

func (s *api) devices() {
	bind(s, DeviceList, func(ctx context.Context, _ *Call, in *ListDevices) (Page[Device], error) {
		list, err := s.Devices.Devices(ctx, store.DeviceFilter{
			User: in.User, IMEI: in.IMEI, IMSI: in.IMSI, Phone: in.Phone, Group: in.Group, Open: in.Open, After: in.After, Limit: in.Limit + 1,
		})
		if err != nil {
			return Page[Device]{}, err
		}
		return pageOf(list, in.Limit, deviceOf, func(v store.Device) string { return v.Name }), nil
	})
	bind(s, DeviceShow, s.showDevice)
	bind(s, DeviceCommands, func(ctx context.Context, _ *Call, in *ListCommands) (Page[Command], error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Page[Command]{}, err
		}
		return numbered(ctx, in.Paging, func(ctx context.Context, before int64, limit int) ([]store.Command, error) {
			return s.Tasks.CommandsOfDevice(ctx, in.Device, before, limit)
		}, commandOf, func(k store.Command) int64 { return k.ID })
	})
	bind(s, DeviceAlerts, func(ctx context.Context, _ *Call, in *OneDevice) (Page[Alert], error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Page[Alert]{}, err
		}
		list, err := s.Devices.Alerts(ctx, in.Device)
		return pageOf(list, len(list), alertOf, nil), err
	})
	bind(s, DeviceMessages, func(ctx context.Context, _ *Call, in *ListMessages) (Page[Message], error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Page[Message]{}, err
		}
		in.Limit = min(in.Limit, maxMessages)
		return numbered(ctx, in.Paging, func(ctx context.Context, before int64, limit int) ([]store.Message, error) {
			return s.Devices.Messages(ctx, in.Device, before, limit)
		}, func(m store.Message) Message {
			v := Message{ID: m.ID, At: m.At, Sent: m.Sent, Proven: m.Proven, ContentType: m.ContentType, Size: m.Size}
			if in.Octets {
				v.Octets = m.Octets
			}
			return v
		}, func(m store.Message) int64 { return m.ID })
	})
	bind(s, DeviceGroups, func(ctx context.Context, _ *Call, in *SetGroups) (Device, error) {
		for _, g := range in.Body.Groups {
			if g == "" || len(g) > maxGroup {
				return Device{}, newProblem(http.StatusUnprocessableEntity, fmt.Sprintf("group %.100q: a name has 1 to %d octets", g, maxGroup), "")
			}
		}
		if err := s.Desk.SetGroups(ctx, in.Device, in.Body.Groups); err != nil {
			return Device{}, err
		}
		v, err := s.Devices.Device(ctx, in.Device)
		return deviceOf(v), err
	})
	bind(s, DeviceUnit, func(ctx context.Context, _ *Call, in *SetUnit) (Device, error) {
		v, err := s.Devices.Device(ctx, in.Device)
		if err == nil && !v.Open {
			err = fmt.Errorf("device %q: %w", in.Device, store.ErrClosed)
		}
		if err != nil {
			return Device{}, err
		}
		if _, err := s.Devices.SetUnit(ctx, in.Body.Unit, in.Device); err != nil {
			return Device{}, err
		}
		if s.PolicyChanged != nil {
			s.PolicyChanged()
		}
		v, err = s.Devices.Device(ctx, in.Device)
		return deviceOf(v), err
	})
}

// maxGroup is how long the name of a group is, in octets.
const maxGroup = 300

// maxMessages of a page: each is read with its octets.
const maxMessages = 50

func (s *api) showDevice(ctx context.Context, c *Call, in *OneDevice) (DeviceDetail, error) {
	v, err := s.Devices.Device(ctx, in.Device)
	if err != nil {
		return DeviceDetail{}, err
	}
	d := DeviceDetail{Device: deviceOf(v)}
	// What it says of itself is for those who may see its inventory.
	if c.May(InventoryShow.Operation) {
		values, err := s.Devices.Info(ctx, in.Device)
		if err != nil {
			return DeviceDetail{}, err
		}
		d.Info = make(map[string]string, len(values))
		for _, n := range values {
			d.Info[n.URI] = string(n.Data)
		}
	}
	w, err := s.Tasks.Wipe(ctx, in.Device)
	switch {
	case err == nil:
		wipe := wipeOf(w)
		d.Wipe = &wipe
	case !errors.Is(err, store.ErrNotFound):
		return DeviceDetail{}, err
	}
	return d, nil
}

func deviceOf(v store.Device) Device {
	return Device{
		Name: v.Name, User: v.User, IMEI: v.IMEI, IMSI: v.IMSI, Phone: v.Phone, Unit: v.Unit, Groups: v.Groups, Open: v.Open,
		Enrolled: v.Enrolled, Closed: v.Closed, Seen: v.Seen,
	}
}

func alertOf(a store.Alert) Alert {
	v := Alert{At: a.At, Code: int(a.Code), Correlator: a.Correlator}
	for _, i := range a.Items {
		v.Items = append(v.Items, i.Source.URI+" "+i.Meta.Type+" "+string(i.Data))
	}
	return v
}

func (s *api) schedules() {
	bind(s, ScheduleShow, func(ctx context.Context, _ *Call, in *OneDevice) (Schedule, error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Schedule{}, err
		}
		v, err := s.Desk.Schedule(ctx, in.Device)
		return scheduleOf(v), err
	})
	bind(s, ScheduleSet, func(ctx context.Context, _ *Call, in *SetSchedule) (Schedule, error) {
		b := in.Body
		v := schedule.Schedule{Tries: b.Tries}
		for _, f := range []struct {
			to      *time.Duration
			seconds int64
		}{{&v.First, b.First}, {&v.Retry, b.Retry}, {&v.Every, b.Every}, {&v.Jitter, b.Jitter}} {
			// More than a device can be told stays too much.
			*f.to = time.Duration(min(max(f.seconds, -1), int64(365*24*time.Hour/time.Second))) * time.Second
		}
		return scheduleOf(v), s.Desk.SetSchedule(ctx, in.Group, in.Rank, v)
	})
	bind(s, ScheduleDelete, func(ctx context.Context, _ *Call, in *DeleteSchedule) (Done, error) {
		return Done{true}, s.Desk.DeleteSchedule(ctx, in.Group)
	})
}

func scheduleOf(v schedule.Schedule) Schedule {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	return Schedule{First: seconds(v.First), Retry: seconds(v.Retry), Tries: v.Tries, Every: seconds(v.Every), Jitter: seconds(v.Jitter)}
}
