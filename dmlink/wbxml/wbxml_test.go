package wbxml

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

func message(t testing.TB, s syncml.Syntax, octets []byte) *syncml.Message {
	t.Helper()
	doc, err := s.Parse(octets, syncml.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := syncml.Decode(doc, syncml.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../syncml/testdata/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	messages := map[string][]byte{}
	for _, f := range files {
		if messages[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

// A message means the same in both syntaxes, and takes no more than its size.
func TestBothSyntaxes(t *testing.T) {
	for name, octets := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			want := message(t, syncml.XML, octets)
			doc := want.Document()
			binary, err := WBXML.Append(nil, doc)
			if err != nil {
				t.Fatal(err)
			}
			if got := message(t, WBXML, binary); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			size := WBXML.Frame(doc.Version)
			for _, e := range doc.Root.Children {
				size += WBXML.Size(e)
			}
			if size < len(binary) {
				t.Errorf("size %d, it is %d", size, len(binary))
			}
			if len(binary) >= len(octets) {
				t.Errorf("%d octets of WBXML, %d of XML", len(binary), len(octets))
			}
		})
	}
}

// Octets that no XML carries go as opaque data, markup too.
func TestOpaque(t *testing.T) {
	for _, data := range []string{"a\x00b", "\xff\xfe", "<x/>"} {
		m := message(t, syncml.XML, corpus(t)["commands.xml"])
		m.Body = []syncml.Command{&syncml.Op{Verb: syncml.Replace, CmdID: "1", Items: []syncml.Item{{Data: []byte(data), HasData: true, Markup: data[0] == '<'}}}}
		binary, err := WBXML.Append(nil, m.Document())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(binary, append([]byte{opaque, byte(len(data))}, data...)) {
			t.Errorf("%q isn't opaque: %x", data, binary)
		}
		if got := message(t, WBXML, binary).Body[0].(*syncml.Op).Items[0]; string(got.Data) != data {
			t.Errorf("%q came back as %q", data, got.Data)
		}
	}
}

// head is version 1.2, SyncML 1.2 by number, UTF-8, no string table.
const head = "02a4016a00"

// hdr is a SyncHdr with SessionID 1 and MsgID 1.
const hdr = "6c" + "65033100" + "01" + "5b033100" + "01" + "01"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		hex  string
		want error
	}{
		"as others write it":      {head + "6d" + hdr + "2b01", nil},
		"version 1.1":             {"01a4016a00" + "6d" + hdr + "2b01", nil},
		"version 1.3":             {"03a4016a00" + "6d" + hdr + "2b01", nil},
		"SyncML 1.1":              {"029f536a00" + "6d" + hdr + "2b01", nil},
		"identifier in the table": {"0200006a1e" + hex.EncodeToString([]byte("-//SYNCML//DTD SyncML 1.2//EN\x00")) + "6d" + hdr + "2b01", nil},
		"no NUL at its end":       {"0200006a1d" + hex.EncodeToString([]byte("-//SYNCML//DTD SyncML 1.2//EN")) + "6d" + hdr + "2b01", nil},
		"strings of a table":      {"02a4016a02" + "3100" + "6d" + "6c" + "658300" + "01" + "5b8300" + "01" + "01" + "2b01", nil},
		"an entity":               {head + "6d" + "6c" + "650231" + "01" + "5b0231" + "01" + "01" + "2b01", nil},
		"opaque identifiers":      {head + "6d" + "6c" + "65c30131" + "01" + "5bc30131" + "01" + "01" + "2b01", nil},
		"a literal tag":           {"02a4016a09" + hex.EncodeToString([]byte("SyncBody\x00")) + "6d" + hdr + "0400" + "01", nil},
		"page changed for nothing": {
			head + "6d" + hdr + "0001" + "0000" + "2b01", nil,
		},

		"nothing":                     {"", syncml.ErrMalformed},
		"version 1.0":                 {"00a4016a00" + "6d" + hdr + "2b01", syncml.ErrForbidden},
		"version 2.0":                 {"10a4016a00" + "6d" + hdr + "2b01", syncml.ErrForbidden},
		"WML":                         {"02046a00" + "6d" + hdr + "2b01", syncml.ErrForbidden},
		"no character set":            {"02a4010000" + "6d" + hdr + "2b01", syncml.ErrForbidden},
		"ISO 8859-1":                  {"02a4010400" + "6d" + hdr + "2b01", syncml.ErrForbidden},
		"table longer than all":       {"02a4016aff7f" + "6d", syncml.ErrMalformed},
		"identifier beyond the table": {"0200056a00" + "6d" + hdr + "2b01", syncml.ErrMalformed},
		"string beyond the table":     {head + "6d" + "6c" + "658307" + "01", syncml.ErrMalformed},
		"opaque longer than all":      {head + "6d" + "6c" + "65c3ffffff7f31" + "01", syncml.ErrMalformed},
		"a number of 33 bits":         {head + "6d" + "6c" + "65c39fffffff7f31" + "01", syncml.ErrMalformed},
		"a number without an end":     {"02ffffffffffff", syncml.ErrMalformed},
		"a string without an end":     {head + "6d" + "6c" + "6503313131", syncml.ErrMalformed},
		"an element without an end":   {head + "6d" + hdr + "2b", syncml.ErrMalformed},
		"a surrogate":                 {head + "6d" + "6c" + "650283b000" + "01", syncml.ErrMalformed},
		"no UTF-8":                    {head + "6d" + "6c" + "6503ff00" + "01", syncml.ErrMalformed},
		"attributes":                  {head + "ed" + hdr + "2b01", syncml.ErrForbidden},
		"an extension":                {head + "6d" + hdr + "8000" + "01", syncml.ErrForbidden},
		"a processing instruction":    {head + "43", syncml.ErrMalformed},
		"a tag that there is not":     {head + "6d" + hdr + "30" + "01", syncml.ErrMalformed},
		"a page that there is not":    {head + "6d" + hdr + "0007" + "05" + "01", syncml.ErrMalformed},
		"text first":                  {head + "033100", syncml.ErrMalformed},
		"octets behind":               {head + "6d" + hdr + "2b0100", syncml.ErrMalformed},
		"text between elements":       {head + "6d" + "033100" + hdr + "2b01", syncml.ErrMalformed},
		"too deep":                    {head + "6d" + hdr + strings.Repeat("48", 30), syncml.ErrTooLarge},
		"a table that is told too often": {
			"02a4016a" + "87d000" + strings.Repeat("31", 1<<16) + strings.Repeat("31", 0x1e800-1<<16-1) + "00" + "6d" + "6c" + "65" + strings.Repeat("8300", 20), syncml.ErrTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			octets, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := WBXML.Parse(octets, syncml.Limits{})
			if err == nil {
				_, err = syncml.Decode(doc, syncml.Limits{})
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// Names that SyncML 1.1 doesn't have can't be written to a device of 1.1.
func TestVersion11(t *testing.T) {
	m := &syncml.Message{
		Version: syncml.V11, Header: syncml.Header{SessionID: "1", MsgID: "1"},
		Body: []syncml.Command{&syncml.Op{Verb: syncml.Exec, CmdID: "1", Correlator: "x"}},
	}
	if out, err := WBXML.Append(nil, m.Document()); !errors.Is(err, syncml.ErrMalformed) {
		t.Errorf("%x, %v", out, err)
	}
	m.Version = syncml.V12
	if _, err := WBXML.Append(nil, m.Document()); err != nil {
		t.Error(err)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint32]string{0: "00", 1: "01", 0x7F: "7f", 0x80: "8100", 0x1201: "a401", 0x0FD3: "9f53", 1<<32 - 1: "8fffffff7f"} {
		octets := appendNumber(nil, n)
		if hex.EncodeToString(octets) != want {
			t.Errorf("%d is %x, want %s", n, octets, want)
		}
		if got, err := (&parser{rest: octets}).number(); err != nil || got != n {
			t.Errorf("%x is %d, %v", octets, got, err)
		}
	}
}

func FuzzWBXML(f *testing.F) {
	for _, octets := range corpus(f) {
		out, err := WBXML.Append(nil, message(f, syncml.XML, octets).Document())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out)
	}
	for _, s := range []string{
		head + "6d" + hdr + "2b01",
		"0200006a1e" + hex.EncodeToString([]byte("-//SYNCML//DTD SyncML 1.2//EN\x00")) + "6d" + hdr + "2b01",
		"02a4016a09" + hex.EncodeToString([]byte("SyncBody\x00")) + "6d" + hdr + "0400" + "01",
		head + "6d" + "6c" + "65c30131" + "01" + "5b0231" + "01" + "01" + "2b01",
	} {
		octets, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		doc, err := WBXML.Parse(octets, syncml.Limits{Octets: 1 << 16})
		if err != nil {
			return
		}
		m, err := syncml.Decode(doc, syncml.Limits{})
		if err != nil {
			return
		}
		out, err := WBXML.Append(nil, m.Document())
		if err != nil {
			// A message can have what the tokens of its version don't.
			return
		}
		size := WBXML.Frame(m.Version)
		for _, e := range m.Document().Root.Children {
			size += WBXML.Size(e)
		}
		if size < len(out) {
			t.Fatalf("size %d of %d", size, len(out))
		}
		doc2, err := WBXML.Parse(out, syncml.Limits{Octets: 1 << 20})
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%x", err, out)
		}
		m2, err := syncml.Decode(doc2, syncml.Limits{})
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%x", err, out)
		}
		again, err := WBXML.Append(nil, m2.Document())
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("it changes when it is written again: %v\n%x\n%x", err, out, again)
		}
	})
}
