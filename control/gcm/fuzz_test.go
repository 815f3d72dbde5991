package gcm

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzSnapshot: what is read is written again octet by octet.
func FuzzSnapshot(f *testing.F) {
	for section, pairs := range everyRecord() {
		s, _ := NewSet(section)
		var put []Record
		for _, p := range pairs {
			put = append(put, p.r)
		}
		if _, err := s.Commit(Version{1, 1}, put, nil); err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		_ = WriteSnapshot(&b, s)
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := ReadSnapshot(bytes.NewReader(p))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteSnapshot(&b, s); err != nil || !bytes.Equal(b.Bytes(), p) {
			t.Errorf("% x became % x", p, b.Bytes())
		}
	})
}

// FuzzDelta: what is read is written again octet by octet, and what a set takes
// leads to the hash that was said.
func FuzzDelta(f *testing.F) {
	s, _ := NewSet(Devices)
	base := s.Clone()
	d, _ := s.Commit(Version{1, 1}, []Record{authorisation(1, 1), authorisation(2, 3)}, nil)
	var b bytes.Buffer
	_ = WriteDelta(&b, d)
	f.Add(b.Bytes())
	d, _ = s.Commit(Version{1, 2}, nil, [][]byte{DeviceKey("device-1")})
	b.Reset()
	_ = WriteDelta(&b, d)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := ReadDelta(bytes.NewReader(p))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteDelta(&b, d); err != nil || !bytes.Equal(b.Bytes(), p) {
			t.Errorf("% x became % x", p, b.Bytes())
		}
		if on := base.Clone(); on.Apply(d) == nil && (on.Hash() != d.Hash || on.Version() != d.Version) {
			t.Errorf("applied, and it is %v %v", on.Version(), on.Hash())
		}
	})
}

// FuzzRecord: a record that is decoded is canonical: encoded it is the same.
func FuzzRecord(f *testing.F) {
	for i, section := range Sections {
		for _, p := range everyRecord()[section] {
			f.Add(i, p.r.Key, p.r.Value)
		}
	}
	f.Fuzz(func(t *testing.T, i int, key, value []byte) {
		section := Sections[uint(i)%uint(len(Sections))]
		typed, err := Decode(section, Record{key, value})
		if err != nil {
			return
		}
		if r, ok := typed.(interface{ Record() Record }); ok {
			if again := r.Record(); !bytes.Equal(again.Key, key) || !bytes.Equal(again.Value, value) {
				t.Errorf("%q %q became %q %q", key, value, again.Key, again.Value)
			}
		}
	})
}

func FuzzEvents(f *testing.F) {
	line, _ := Event{Cursor: 6, At: noon, Kind: SessionStarted, Device: "phone-1"}.Append(nil)
	f.Add(line)
	f.Fuzz(func(t *testing.T, p []byte) {
		r := NewEventReader(bytes.NewReader(p), 5)
		for last := uint64(5); ; {
			e, err := r.Next()
			if err != nil {
				return
			}
			if e.Cursor <= last {
				t.Fatalf("cursor %d after %d", e.Cursor, last)
			}
			last = e.Cursor
			// Text that has to be escaped is longer than it was.
			if _, err := e.Append(nil); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzSessions: what a gateway says of its sessions is taken or refused, and
// what is taken is written the same.
func FuzzSessions(f *testing.F) {
	f.Add([]byte(`{"id":"00000000000000a1","device":"phone-1","addresses":["10.9.0.1"],"peer":"192.0.2.7:4500","established":"2026-11-22T09:00:00Z","bytes_in":1,"packets_in":2,"bytes_out":3,"packets_out":4}` + "\n"))
	f.Add([]byte(`{"id":"","device":"phone-1"}`))
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewSessionReader(bytes.NewReader(data))
		for range 100 {
			s, err := r.Next()
			if err != nil {
				return
			}
			line, err := s.Append(nil)
			if err != nil {
				continue // a time that JSON doesn't have, or longer when escaped
			}
			again, err := NewSessionReader(bytes.NewReader(line)).Next()
			if err != nil || again.ID != s.ID || again.Device != s.Device || len(again.Addresses) != len(s.Addresses) {
				t.Fatalf("%+v, %v; was %+v", again, err, s)
			}
		}
	})
}

// FuzzDrain: an order is within its bounds, or none.
func FuzzDrain(f *testing.F) {
	f.Add([]byte(`{"on":true,"to":"gw2.example.org","within":60}`))
	f.Add([]byte(`{"within":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := ReadDrain(bytes.NewReader(data)); err == nil && (d.Within < 0 || d.Within > MaxDrain || len(d.To) > maxText) {
			t.Fatalf("%+v", d)
		}
	})
}
