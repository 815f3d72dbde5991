package ike

import (
	"bytes"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// layToRest lays a machine to rest, if it can, and wakes it: nothing may be
// different. Every scenario of this package does it after each Step.
func (w *world) layToRest(m *Machine) {
	w.t.Helper()
	if m.awake == nil {
		return
	}
	last, forget := m.in.last, m.in.forget
	defer func() { m.in.last, m.in.forget = last, forget }()
	m.in.last, m.in.forget = nil, time.Time{}
	if !m.idle() {
		return
	}
	before, deadline, skD := *m.awake, m.Deadline(), bytes.Clone(m.skD)
	keys := m.open.AppendState(m.seal.AppendState(nil))
	if !m.Rest(&w.octets) || m.awake != nil || !m.Deadline().Equal(deadline) {
		w.t.Fatalf("at rest: %v, deadline %v, before %v", m.awake == nil, m.Deadline(), deadline)
	}
	written := m.written.Octets()
	m.wake()
	for _, octet := range written {
		if octet != 0 {
			w.t.Fatal("keys remain")
		}
	}
	if !bytes.Equal(before.skD, make([]byte, len(skD))) || len(before.seal.AppendState(nil)) != 0 || len(before.open.AppendState(nil)) != 0 {
		w.t.Fatal("keys remain in the machine before")
	}
	if !bytes.Equal(m.skD, skD) || !bytes.Equal(m.open.AppendState(m.seal.AppendState(nil)), keys) {
		w.t.Fatal("other keys")
	}
	after := *m.awake
	for _, a := range []*awake{&before, &after} {
		a.skD, a.seal, a.open = nil, nil, nil
		a.in.from, a.in.about = path{}, 0 // of a request that was answered
		a.request = request{id: a.request.id}
	}
	if where := difference(reflect.ValueOf(&before).Elem(), reflect.ValueOf(&after).Elem()); where != "" {
		w.t.Fatalf("%s is different after a rest", where)
	}
	w.rested++
}

// difference says where two values differ: times by Equal, slices without
// telling nil from empty.
func difference(a, b reflect.Value) string {
	switch kind := a.Kind(); {
	case kind == reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			if !timeOf(a).Equal(timeOf(b)) {
				return "time"
			}
			return ""
		}
		if a.Type() == reflect.TypeFor[netip.Addr]() {
			if *(*netip.Addr)(unsafe.Pointer(a.UnsafeAddr())) != *(*netip.Addr)(unsafe.Pointer(b.UnsafeAddr())) {
				return "address"
			}
			return ""
		}
		for i := range a.NumField() {
			if where := difference(a.Field(i), b.Field(i)); where != "" {
				return a.Type().Field(i).Name + "." + where
			}
		}
		return ""
	case kind == reflect.Pointer:
		if a.IsNil() || b.IsNil() || a.Pointer() == b.Pointer() {
			if a.Pointer() != b.Pointer() {
				return "nil"
			}
			return ""
		}
		return difference(a.Elem(), b.Elem())
	case kind == reflect.Slice:
		if a.Len() != b.Len() {
			return "length"
		}
		for i := range a.Len() {
			if where := difference(a.Index(i), b.Index(i)); where != "" {
				return where
			}
		}
		return ""
	case kind == reflect.Map, kind == reflect.Func, kind == reflect.Interface:
		if !a.IsNil() || !b.IsNil() {
			return "not nil"
		}
		return ""
	}
	if !a.Equal(b) {
		return a.Kind().String()
	}
	return ""
}

func timeOf(v reflect.Value) time.Time { return *(*time.Time)(unsafe.Pointer(v.UnsafeAddr())) }

// A machine that was set up, moved, rekeyed and asked for things rests in
// between, and answers as one that didn't: see layToRest.
func TestRest(t *testing.T) {
	w := newWorld(t, options{})
	w.connect()
	gw := w.gw.m
	if gw.Rest(&w.octets) {
		t.Fatal("rests while the peer may ask for the last answer again")
	}
	w.pass(keepAnswer + time.Second)
	if w.rested == 0 || !gw.Rest(&w.octets) || !gw.Rest(&w.octets) {
		t.Fatal("an IKE SA that has nothing to do doesn't rest")
	}
	if gw.Deadline(); gw.awake != nil {
		t.Fatal("woken by the question when it is due")
	}
	w.step(w.gw, Probe{})
	if gw.Rest(&w.octets) {
		t.Fatal("rests while it waits for an answer")
	}
	w.deliver()
	w.step(w.gw, Close{Reason: CloseKilled})
	if gw.Rest(&w.octets) {
		t.Fatal("rests while it ends")
	}
	w.deliver()
}

// Everything in a Machine is written by Rest, or keeps it from resting. Who adds
// a field looks at rest.go and then here.
func TestRestKnowsAllFields(t *testing.T) {
	for _, test := range []struct {
		of   reflect.Type
		want int
	}{
		{reflect.TypeFor[awake](), 38}, {reflect.TypeFor[child](), 14}, {reflect.TypeFor[mobility](), 12},
		{reflect.TypeFor[window](), 9}, {reflect.TypeFor[request](), 14}, {reflect.TypeFor[rekeying](), 6},
		{reflect.TypeFor[peer](), 4}, {reflect.TypeFor[pace](), 3}, {reflect.TypeFor[resumable](), 4},
		{reflect.TypeFor[path](), 3}, {reflect.TypeFor[dataplane.Path](), 3}, {reflect.TypeFor[dataplane.Selector](), 5},
		{reflect.TypeFor[dataplane.Algorithm](), 3},
	} {
		if n := test.of.NumField(); n != test.want {
			t.Errorf("%v has %d fields, rest.go knows %d", test.of, n, test.want)
		}
	}
}

// TestMemoryAtRest: what an IKE SA takes that is up and has nothing to do, in octets.
func TestMemoryAtRest(t *testing.T) {
	const machines, most = 200, 360
	worlds := make([]*world, machines)
	held := []*slab.Octets{new(slab.Octets)}
	for i := range worlds {
		worlds[i] = newWorld(t, options{gw: func(c *Config) { c.Tickets = true }})
		worlds[i].connect()
		worlds[i].pass(keepAnswer + time.Second) // the last answer is gone
		m, first := worlds[i].gw.m, worlds[0].gw.m
		if i > 0 { // as with the machines of one gateway
			m.cfg, m.assigned = first.common.Value().cfg, first.common.Value().assigned
		}
		if !m.Rest(held[0]) {
			t.Fatal("doesn't rest")
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	written := len(worlds[0].gw.m.written.Octets())
	for _, w := range worlds { // its device and its log don't count
		w.dev, w.log = nil, strings.Builder{}
	}
	with := heap()
	for _, w := range worlds {
		w.gw.m = nil
	}
	held[0] = nil
	each := (with - heap()) / machines
	runtime.KeepAlive(worlds)
	t.Logf("%d octets, of which %d written", each, written)
	if each > most {
		t.Errorf("an IKE SA at rest takes %d octets, want at most %d", each, most)
	}
}

// BenchmarkRest is a rest and what wakes from it.
func BenchmarkRest(b *testing.B) {
	w := newWorld(&testing.T{}, options{gw: func(c *Config) { c.Tickets = true }})
	w.connect()
	w.pass(keepAnswer + time.Second)
	b.ReportAllocs()
	for b.Loop() {
		w.gw.m.Rest(&w.octets)
		w.gw.m.wake()
	}
}
