package task

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Store is what tasks need to be kept.
type Store interface {
	Put(ctx context.Context, k store.Task, devices ...string) (id string, n int, err error)
	Devices(ctx context.Context, f store.DeviceFilter) ([]store.Device, error)
	Enroll(ctx context.Context, v store.Device) error
	PutSchedule(ctx context.Context, group string, rank int, text string) error
	DeleteSchedule(ctx context.Context, group string) error
	SetGroups(ctx context.Context, device string, groups []string) error
	ScheduleOf(ctx context.Context, device string) (text string, err error)
	ScheduleOfGroups(ctx context.Context, groups []string) (text string, err error)
	Device(ctx context.Context, name string) (store.Device, error)
	Task(ctx context.Context, id string) (store.Task, error)
	CommandsOfDevice(ctx context.Context, device string, before int64, limit int) ([]store.Command, error)
}

// Target says who is meant: one field is set.
type Target struct {
	// Device is its name.
	Device            string
	IMEI, IMSI, Phone string
	// User: all devices that are hers.
	User string
	// Group: all that are in it now.
	Group string
}

func (t Target) String() string {
	for _, f := range t.fields() {
		if f.value != "" {
			return f.name + " " + f.value
		}
	}
	return "nobody"
}

type field struct{ name, value string }

func (t Target) fields() []field {
	return []field{{"device", t.Device}, {"IMEI", t.IMEI}, {"IMSI", t.IMSI}, {"phone number", t.Phone}, {"user", t.User}, {"group", t.Group}}
}

// Request of an administrator.
type Request struct {
	// ID makes a second try safe; drawn if it is empty.
	ID     string
	Type   string
	Values Values
	Target Target
	By     string
	// Lifetime instead of that of the type.
	Lifetime time.Duration
}

// Placed task.
type Placed struct {
	ID      string
	Devices int
	Expires time.Time
}

// Desk takes requests. It has no state but its settings.
type Desk struct {
	store    Store
	types    Table
	provider string
	schedule schedule.Schedule
	now      func() time.Time
}

// Options of a Desk.
type Options struct {
	Store Store
	// Types is Types() if nil.
	Types Table
	// Provider is the name by which devices know this server, in the tree of
	// DMClient.
	Provider string
	// Schedule of devices of which no group has one; the zero value is
	// schedule.Default().
	Schedule schedule.Schedule
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// New desk.
func New(o Options) *Desk {
	if o.Types == nil {
		o.Types = Types()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Schedule == (schedule.Schedule{}) {
		o.Schedule = schedule.Default()
	}
	return &Desk{o.Store, o.Types, o.Provider, o.Schedule, o.Now}
}

// Types that may be requested.
func (d *Desk) Types() Table { return d.types }

// Bounds on how long a task may wait.
const (
	shortest = time.Minute
	longest  = 366 * 24 * time.Hour
)

// maxDevices of a user.
const maxDevices = 1000

// Find the devices that a target means, closed ones not. store.ErrNotFound if
// there is none. A number that two devices have means neither.
func (d *Desk) Find(ctx context.Context, t Target) ([]string, error) {
	n := 0
	for _, f := range t.fields() {
		if f.value != "" {
			n++
		}
	}
	if n != 1 || t.Group != "" {
		return nil, fmt.Errorf("%w: who is meant is said by one of device, IMEI, IMSI, phone number and user", ErrInvalid)
	}
	if t.Device != "" {
		return []string{t.Device}, nil
	}
	all, err := d.store.Devices(ctx, store.DeviceFilter{IMEI: t.IMEI, IMSI: t.IMSI, Phone: t.Phone, User: t.User, Open: true, Limit: maxDevices})
	if err != nil {
		return nil, err
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("device of %s: %w", t, store.ErrNotFound)
	case len(all) > 1 && t.User == "":
		return nil, fmt.Errorf("%w: %s is that of %d devices, such as %q and %q: name one", ErrInvalid, t, len(all), all[0].Name, all[1].Name)
	case len(all) == maxDevices:
		return nil, fmt.Errorf("%w: %s has %d devices or more: use a group", ErrInvalid, t, maxDevices)
	}
	var names []string
	for _, v := range all {
		names = append(names, v.Name)
	}
	return names, nil
}

// Place a task.
func (d *Desk) Place(ctx context.Context, r Request) (Placed, error) {
	one, order, err := d.types.Make(r.Type, r.Values)
	if err != nil {
		return Placed{}, err
	}
	lifetime := r.Lifetime
	if lifetime == 0 {
		lifetime = one.Lifetime
	}
	if lifetime < shortest || lifetime > longest {
		return Placed{}, fmt.Errorf("%w: a lifetime of %v, must be from %v to %v", ErrInvalid, lifetime, shortest, longest)
	}
	if one.Closes && (r.Target.User != "" || r.Target.Group != "") {
		return Placed{}, fmt.Errorf("%w: %s is for one device at a time", ErrInvalid, one.Name)
	}
	if r.Values == nil {
		r.Values = Values{}
	}
	detail, err := json.Marshal(r.Values)
	if err != nil {
		return Placed{}, err
	}
	now := d.now()
	if strings.HasPrefix(r.ID, scheduleKind+"-") {
		// Who had one of these would keep a device from hearing a schedule.
		return Placed{}, fmt.Errorf("%w: task ID %.50q begins with %s-, as those that tell schedules do", ErrInvalid, r.ID, scheduleKind)
	}
	if r.ID == "" {
		r.ID = rand.Text()
	}
	// What an alert will say that comes when the device has finished.
	if o, ok := order.Command.(*syncml.Op); ok && o.Verb == syncml.Exec && o.Correlator == "" {
		o.Correlator = r.ID
	}
	k := store.Task{
		ID: r.ID, Kind: one.Name, Detail: string(detail), Created: now, By: r.By, Expires: now.Add(lifetime),
		Urgency: one.Urgency, Semantics: order.Semantics, Command: order.Command, Query: order.Query, Closes: one.Closes,
	}
	var names []string
	if g := r.Target.Group; g != "" && r.Target == (Target{Group: g}) {
		k.Group = g
	} else if names, err = d.Find(ctx, r.Target); err != nil {
		return Placed{}, err
	}
	id, n, err := d.store.Put(ctx, k, names...)
	return Placed{ID: id, Devices: n, Expires: k.Expires}, err
}

// Enrolled is told of each enrollment, once or more often: the device is managed
// from now on, and hears its schedule first.
func (d *Desk) Enrolled(ctx context.Context, v store.Device) error {
	if err := d.store.Enroll(ctx, v); err != nil {
		return err
	}
	return d.tellSchedule(ctx, v)
}

// SetSchedule of a group, "" being all devices, and tell those that are in it.
// Of a device's groups the one with the lowest rank decides. After an error it
// can be done again; a device is told once.
func (d *Desk) SetSchedule(ctx context.Context, group string, rank int, s schedule.Schedule) error {
	if err := s.Validate(); err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := d.store.PutSchedule(ctx, group, rank, string(text)); err != nil {
		return err
	}
	return d.tellGroup(ctx, group)
}

// DeleteSchedule of a group, and tell those that are in it what holds for them now;
// otherwise as SetSchedule. That there is none is no error.
func (d *Desk) DeleteSchedule(ctx context.Context, group string) error {
	if err := d.store.DeleteSchedule(ctx, group); err != nil {
		return err
	}
	return d.tellGroup(ctx, group)
}

// SetGroups of a device, and tell it the schedule that it has by them, if that is
// another one. After an error it can be done again.
func (d *Desk) SetGroups(ctx context.Context, device string, groups []string) error {
	if err := d.store.SetGroups(ctx, device, groups); err != nil {
		return err
	}
	return d.tellDevice(ctx, device)
}

// tellDevice tells one when to come, unless it is closed.
func (d *Desk) tellDevice(ctx context.Context, device string) error {
	v, err := d.store.Device(ctx, device)
	if err != nil || !v.Open {
		return err
	}
	if err = d.tellSchedule(ctx, v); errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}

// tellGroup tells all devices of a group when to come.
func (d *Desk) tellGroup(ctx context.Context, group string) error {
	f := store.DeviceFilter{Group: group, Open: true}
	for {
		all, err := d.store.Devices(ctx, f)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, v := range all {
			if err := d.tellSchedule(ctx, v); err != nil && !errors.Is(err, store.ErrClosed) {
				return err
			}
		}
		f.After = all[len(all)-1].Name
	}
}

// Schedule of a device.
func (d *Desk) Schedule(ctx context.Context, device string) (schedule.Schedule, error) {
	text, err := d.store.ScheduleOf(ctx, device)
	if err != nil {
		return d.schedule, err
	}
	return d.parse(text)
}

func (d *Desk) parse(text string) (schedule.Schedule, error) {
	s := d.schedule
	if text == "" {
		return s, nil
	}
	s = schedule.Default()
	return s, json.Unmarshal([]byte(text), &s)
}

// scheduleKind of tasks that tell a device when to come.
const scheduleKind = "schedule"

// tellSchedule by a task whose ID says what it tells, so that it is put once; or
// what it tells and after what, if the device has heard of another one since.
func (d *Desk) tellSchedule(ctx context.Context, v store.Device) error {
	s, err := d.Schedule(ctx, v.Name)
	if err != nil {
		return err
	}
	k, err := d.telling(s, v)
	if err != nil {
		return err
	}
	if _, _, err = d.store.Put(ctx, k, v.Name); !errors.Is(err, store.ErrExists) {
		return err
	}
	last, id, err := d.lastTold(ctx, v)
	if err != nil || last == k.Detail {
		return err
	}
	k.ID = tellingID(v, fmt.Appendf(nil, "%s after %d", k.Detail, id))
	if _, _, err = d.store.Put(ctx, k, v.Name); errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

// lastTold is the schedule that a device was told, or is about to be, when last,
// and the number of that command.
func (d *Desk) lastTold(ctx context.Context, v store.Device) (text string, id int64, err error) {
	for before := int64(0); ; {
		page, err := d.store.CommandsOfDevice(ctx, v.Name, before, 0)
		if err != nil || len(page) == 0 {
			return "", 0, err
		}
		for _, c := range page {
			if strings.HasPrefix(c.Task, tellingID(v, nil)) {
				k, err := d.store.Task(ctx, c.Task)
				return k.Detail, c.ID, err
			}
			before = c.ID
		}
	}
}

// tellingID of a task that tells something; of nothing it is how all of them
// begin.
func tellingID(v store.Device, what []byte) string {
	id := fmt.Sprintf("%s-%s-%d-", scheduleKind, v.Name, v.Enrolled.UnixMicro())
	if what != nil {
		id += fmt.Sprintf("%x", digest(what))
	}
	return id
}

// Welcome is the task that tells a device its schedule, for a store that puts it
// in the transaction in which the device enrolls. Recheck follows.
func (d *Desk) Welcome(ctx context.Context, v store.Device) (store.Task, error) {
	text, err := d.store.ScheduleOfGroups(ctx, v.Groups)
	if err != nil {
		return store.Task{}, err
	}
	s, err := d.parse(text)
	if err != nil {
		return store.Task{}, err
	}
	return d.telling(s, v)
}

func (d *Desk) telling(s schedule.Schedule, v store.Device) (store.Task, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return store.Task{}, err
	}
	now := d.now()
	return store.Task{
		ID: tellingID(v, text), Kind: scheduleKind, Detail: string(text),
		Created: now, By: "manager", Expires: now.Add(longest), Urgency: -10, Command: s.Command(d.provider, v.Name),
	}, nil
}

// Recheck after a Welcome was put: a schedule that was changed meanwhile didn't
// find the device in its group yet.
func (d *Desk) Recheck(ctx context.Context, device string, welcome store.Task) error {
	s, err := d.Schedule(ctx, device)
	if err != nil {
		return err
	}
	if text, err := json.Marshal(s); err != nil || string(text) == welcome.Detail {
		return err
	}
	return d.tellDevice(ctx, device)
}
