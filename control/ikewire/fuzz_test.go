package ikewire

import (
	"bytes"
	"reflect"
	"testing"
)

// checkSame holds what must be true of every message that we accept: written
// again it has the same length, differs only where reserved bits were set, and
// reads the same.
func checkSame(t *testing.T, in, out []byte) {
	t.Helper()
	if len(in) != len(out) {
		t.Fatalf("length %d, was %d", len(out), len(in))
	}
	for i := range in {
		if out[i]&^in[i] != 0 {
			t.Fatalf("octet %d: bits set that were not: %#x, was %#x", i, out[i], in[i])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(initRequest)
	f.Add(unhex(`0102030405060708 1112131415161718 2e 20 25 08 00000002 0000002c 29 00 0010 000102030405060708090a0b`))
	f.Add(unhex(`0102030405060708 1112131415161718 35 20 23 08 00000001 00000030 23 00 0014 0001 0003 000102030405060708090a0b`))
	f.Add(unhex(`0102030405060708 1112131415161718 00 20 25 20 00000002 0000001c`))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Parse(in)
		if err != nil {
			return
		}
		out, err := m.Append(nil)
		if err != nil {
			t.Fatalf("can't write what was read: %v", err)
		}
		checkSame(t, in, out)
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("can't read what was written: %v", err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("read %+v, was %+v", again, m)
		}
		canonical, err := again.Append(nil)
		if err != nil || !bytes.Equal(canonical, out) {
			t.Fatalf("written %x, was %x, error %v", canonical, out, err)
		}
	})
}

func FuzzParsePayloads(f *testing.F) {
	f.Add(byte(authFirst), authRequest)
	f.Add(byte(PayloadSA), initRequest[HeaderLen:])
	f.Add(byte(PayloadTSr), unhex(`00 00 0023 02 000000 0a 00 000b 0000 0000 616263 07 00 0010 ffff 0000 0a000001 0a0000ff`))
	f.Add(byte(200), unhex("29 80 0006 abcd 00 00 0008 00 00 4000"))
	f.Add(byte(0), []byte{})
	f.Fuzz(func(t *testing.T, first byte, in []byte) {
		ps, err := ParsePayloads(PayloadType(first), in)
		if err != nil {
			return
		}
		gotFirst, out, err := AppendPayloads(nil, ps)
		if err != nil || gotFirst != PayloadType(first) {
			t.Fatalf("can't write what was read: first %s, error %v", gotFirst, err)
		}
		checkSame(t, in, out)
		again, err := ParsePayloads(gotFirst, out)
		if err != nil {
			t.Fatalf("can't read what was written: %v", err)
		}
		if !reflect.DeepEqual(ps, again) {
			t.Fatalf("read %+v, was %+v", again, ps)
		}
	})
}
