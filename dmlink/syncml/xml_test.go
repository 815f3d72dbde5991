package syncml

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// corpus of messages as clients and we write them.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	messages := map[string][]byte{}
	for _, f := range files {
		octets, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		messages[filepath.Base(f)] = []byte(strings.TrimSpace(string(octets)))
	}
	return messages
}

func decode(t testing.TB, octets []byte) *Message {
	t.Helper()
	doc, err := XML.Parse(octets, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(doc, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The corpus is written in the form that we write, so it comes back octet by
// octet, and sizes are exact.
func TestCorpus(t *testing.T) {
	for name, octets := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			m := decode(t, octets)
			doc := m.Document()
			got, err := XML.Append(nil, doc)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(octets) {
				t.Errorf("got\n%s\nwant\n%s", got, octets)
			}
			size := XML.Frame(doc.Version)
			for _, e := range doc.Root.Children {
				size += XML.Size(e)
			}
			if size != len(got) {
				t.Errorf("size %d, it is %d", size, len(got))
			}
		})
	}
}

func TestFields(t *testing.T) {
	messages := corpus(t)
	m := decode(t, messages["windows10-package1.xml"])
	if h := m.Header; h.SessionID != "1A" || h.Source.Name != "dummy" || h.Cred.Meta.Type != AuthMD5 || h.Meta.MaxMsgSize != 524288 {
		t.Errorf("header %+v", h)
	}
	if a := m.Body[1].(*Alert); a.Code != AlertClientEvent || a.Items[0].Meta.Type != "com.microsoft/MDM/LoginStatus" || string(a.Items[0].Data) != "user" {
		t.Errorf("alert %+v", a)
	}
	if r := m.Body[2].(*Op); r.Verb != Replace || len(r.Items) != 5 || r.Items[3].Source.URI != "./DevInfo/DmV" || !m.Final {
		t.Errorf("replace %+v", r)
	}
	if m := decode(t, messages["mobile61-package1.xml"]); m.Version != V11 || m.Header.Meta.MaxObjSize != 65536 {
		t.Errorf("1.1: %+v", m)
	}
	m = decode(t, messages["commands.xml"])
	if st := m.Body[0].(*Status); st.Code != 212 || string(st.Chal.Meta.NextNonce) != "Nonce" {
		t.Errorf("status %+v", st)
	}
	if g := m.Body[6].(*Group); !g.Atomic || len(g.Commands) != 2 || g.Commands[1].(*Group).Commands[0].ID() != "10" {
		t.Errorf("atomic %+v", g)
	}
	if i := m.Body[6].(*Group).Commands[1].(*Group).Commands[0].(*Op).Items[0]; !i.HasData || len(i.Data) != 0 {
		t.Errorf("empty data %+v", i)
	}
	m = decode(t, messages["results.xml"])
	if i := m.Body[2].(*Results).Items[0]; !i.MoreData || i.Meta.Size != 9000 || m.Final {
		t.Errorf("chunk %+v", i)
	}
}

// envelope of a body, written as some clients do.
func envelope(body string) string {
	return `<SyncML xmlns="SYNCML:SYNCML1.2"><SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>1</MsgID></SyncHdr><SyncBody>` + body + `</SyncBody></SyncML>`
}

// What clients write that isn't what we write, and means the same.
func TestForgiven(t *testing.T) {
	want := decode(t, []byte(envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format xmlns="syncml:metinf">chr</Format></Meta><Data>x</Data></Item></Alert>`)))
	for name, s := range map[string]string{
		"declaration, comments, space": "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- c -->\n" + strings.ReplaceAll(envelope(`<Alert><CmdID> 1 </CmdID> <Data>1226</Data><Item><Meta> <Format xmlns="syncml:metinf">chr</Format></Meta><Data>x</Data></Item></Alert>`), "><S", ">\n\t<S"),
		"prefixes":                     `<s:SyncML xmlns:s="SYNCML:SYNCML1.2" xmlns:m="syncml:metinf"><s:SyncHdr><s:VerDTD>1.2</s:VerDTD><s:VerProto>DM/1.2</s:VerProto><s:SessionID>1</s:SessionID><s:MsgID>1</s:MsgID></s:SyncHdr><s:SyncBody><s:Alert><s:CmdID>1</s:CmdID><s:Data>1226</s:Data><s:Item><s:Meta><m:Format>chr</m:Format></s:Meta><s:Data>x</s:Data></s:Item></s:Alert></s:SyncBody></s:SyncML>`,
		"no namespaces":                strings.NewReplacer(` xmlns="SYNCML:SYNCML1.2"`, "", ` xmlns="syncml:metinf"`, "").Replace(envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format>chr</Format></Meta><Data>x</Data></Item></Alert>`)),
		"lower case":                   strings.ReplaceAll(envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format xmlns="SyncML:MetInf">chr</Format></Meta><Data>x</Data></Item></Alert>`), "SYNCML:SYNCML1.2", "syncml:syncml1.2"),
		"MetInf inherited":             envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta xmlns="syncml:metinf"><Format>chr</Format></Meta><Data>x</Data></Item></Alert>`),
		"MetInf outside Meta":          envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta/><Format xmlns="syncml:metinf">chr</Format><Data>x</Data></Item></Alert>`),
		"vendor's attributes":          strings.ReplaceAll(envelope(`<Alert><CmdID>1</CmdID><Data msft:originalerror="0x86000002">1226</Data><Item><Meta><Format xmlns="syncml:metinf">chr</Format></Meta><Data>x</Data></Item></Alert>`), "<SyncML ", `<SyncML xmlns:msft="http://schemas.microsoft.com/MobileDevice/MDM" `),
		"vendor's elements":            envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format xmlns="syncml:metinf">chr</Format><X xmlns="v">1</X></Meta><Data>x</Data><V xmlns="v"><W/></V></Item></Alert>`),
		"CDATA":                        envelope(`<Alert><CmdID>1</CmdID><Data>1226</Data><Item><Meta><Format xmlns="syncml:metinf">chr</Format></Meta><Data><![CDATA[x]]></Data></Item></Alert>`),
	} {
		t.Run(name, func(t *testing.T) {
			if got := decode(t, []byte(s)); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got.Body[0], want.Body[0])
			}
		})
	}
}

// Markup in Data comes and goes as it stands, escaped or not.
func TestMarkup(t *testing.T) {
	const inner = `<MgmtTree xmlns="syncml:dmddf1.2"><Node a="1">x &amp; y</Node><!-- c --></MgmtTree>`
	s := envelope(`<Replace><CmdID>1</CmdID><Item><Target><LocURI>./A</LocURI></Target><Data>` + inner + `</Data></Item></Replace>`)
	m := decode(t, []byte(s))
	i := m.Body[0].(*Op).Items[0]
	if string(i.Data) != inner || !i.Markup {
		t.Errorf("data %q, markup %t", i.Data, i.Markup)
	}
	if out, err := XML.Append(nil, m.Document()); err != nil || string(out) != s {
		t.Errorf("%s, %v", out, err)
	}
	i.Markup = false
	m.Body[0].(*Op).Items[0] = i
	out, err := XML.Append(nil, m.Document())
	if err != nil {
		t.Fatal(err)
	}
	if again := decode(t, out).Body[0].(*Op).Items[0]; string(again.Data) != inner || again.Markup {
		t.Errorf("escaped: %q, markup %t", again.Data, again.Markup)
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat("<Atomic>", 20) + strings.Repeat("</Atomic>", 20)
	for name, c := range map[string]struct {
		s    string
		want error
	}{
		"nothing":                 {"", ErrMalformed},
		"text":                    {"hello", ErrMalformed},
		"cut off":                 {envelope("")[:150], ErrMalformed},
		"two documents":           {envelope("") + envelope(""), ErrMalformed},
		"another root":            {`<Sync xmlns="SYNCML:SYNCML1.2"/>`, ErrMalformed},
		"another namespace":       {strings.ReplaceAll(envelope(""), "SYNCML:SYNCML1.2", "http://example.com"), ErrMalformed},
		"document type":           {`<!DOCTYPE SyncML [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>` + envelope("<Alert><CmdID>&b;</CmdID></Alert>"), ErrForbidden},
		"document type, external": {`<!DOCTYPE SyncML PUBLIC "-//SYNCML//DTD SyncML 1.2//EN" "http://example.com/x.dtd">` + envelope(""), ErrForbidden},
		"an entity":               {envelope("<Alert><CmdID>&x;</CmdID></Alert>"), ErrMalformed},
		"processing instruction":  {`<?php echo 1?>` + envelope(""), ErrForbidden},
		"character set":           {`<?xml version="1.0" encoding="iso-8859-1"?>` + envelope(""), ErrForbidden},
		"no UTF-8":                {envelope("<Alert><CmdID>\xff</CmdID></Alert>"), ErrMalformed},
		"no SessionID":            {strings.ReplaceAll(envelope(""), "<SessionID>1</SessionID>", ""), ErrMalformed},
		"no MsgID":                {strings.ReplaceAll(envelope(""), "<MsgID>1</MsgID>", ""), ErrMalformed},
		"two MsgIDs":              {strings.ReplaceAll(envelope(""), "<MsgID>1</MsgID>", "<MsgID>1</MsgID><MsgID>2</MsgID>"), ErrMalformed},
		"two bodies":              {strings.ReplaceAll(envelope(""), "</SyncML>", "<SyncBody/></SyncML>"), ErrMalformed},
		"body before header":      {`<SyncML><SyncBody/><SyncHdr><SessionID>1</SessionID><MsgID>1</MsgID></SyncHdr></SyncML>`, ErrMalformed},
		"command after Final":     {envelope("<Final/><Alert><CmdID>1</CmdID></Alert>"), ErrMalformed},
		"text in a command":       {envelope("<Alert>x<CmdID>1</CmdID></Alert>"), ErrMalformed},
		"element in an ID":        {envelope("<Alert><CmdID><b/></CmdID></Alert>"), ErrMalformed},
		"a code that is none":     {envelope("<Alert><CmdID>1</CmdID><Data>12x</Data></Alert>"), ErrMalformed},
		"a code below zero":       {envelope("<Alert><CmdID>1</CmdID><Data>-1</Data></Alert>"), ErrMalformed},
		"a size beyond all":       {envelope(`<Replace><CmdID>1</CmdID><Item><Meta><Size xmlns="syncml:metinf">99999999999999999999</Size></Meta></Item></Replace>`), ErrMalformed},
		"a nonce that is none":    {envelope(`<Status><CmdID>1</CmdID><Chal><Meta><NextNonce xmlns="syncml:metinf">*</NextNonce></Meta></Chal><Data>401</Data></Status>`), ErrMalformed},
		"misplaced":               {envelope("<Alert><CmdID>1</CmdID><SyncHdr/></Alert>"), ErrMalformed},
		"too deep":                {envelope(deep), ErrTooLarge},
		"groups in groups":        {envelope(strings.Repeat("<Atomic>", 5) + strings.Repeat("</Atomic>", 5)), ErrTooLarge},
		"too many commands":       {envelope(strings.Repeat("<Get/>", 5000)), ErrTooLarge},
		"too many items":          {envelope("<Get>" + strings.Repeat("<Item/>", 5000) + "</Get>"), ErrTooLarge},
		"too many elements":       {envelope("<Get>" + strings.Repeat("<x/>", 70000) + "</Get>"), ErrTooLarge},
		"too many attributes":     {envelope("<Get" + strings.Repeat(` a="b"`, 20) + "/>"), ErrTooLarge},
		"too many octets":         {envelope("<Get>" + strings.Repeat(" ", 1<<20) + "</Get>"), ErrTooLarge},
		"a long name":             {envelope("<Get><Item><Target><LocURI>" + strings.Repeat("x", 5000) + "</LocURI></Target></Item></Get>"), ErrTooLarge},
		"deep markup":             {envelope("<Get><Item><Data>" + strings.Repeat("<a>", 30) + strings.Repeat("</a>", 30) + "</Data></Item></Get>"), ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := XML.Parse([]byte(c.s), Limits{})
			if err == nil {
				_, err = Decode(doc, Limits{})
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// Commands that aren't of device management are known by name and ID, and come
// back as such.
func TestUnknown(t *testing.T) {
	m := decode(t, []byte(envelope(`<Put><CmdID>1</CmdID><Item/></Put><Results2/><Sync><CmdID>3</CmdID></Sync><Atomic><CmdID>4</CmdID><Status><CmdID>5</CmdID></Status></Atomic>`)))
	for n, want := range []Unknown{{"Put", "1"}, {"Results2", ""}, {"Sync", "3"}} {
		if got, ok := m.Body[n].(*Unknown); !ok || *got != want {
			t.Errorf("%+v, want %+v", m.Body[n], want)
		}
	}
	if got, ok := m.Body[3].(*Group).Commands[0].(*Unknown); !ok || got.Element != "Status" {
		t.Errorf("a Status in an Atomic is %+v", got)
	}
}

func TestNotText(t *testing.T) {
	for _, data := range []string{"a\x00b", "\x1b", "\xff", "\uFFFE"} {
		m := decode(t, []byte(envelope(`<Replace><CmdID>1</CmdID><Item/></Replace>`)))
		m.Body[0].(*Op).Items[0].Data = []byte(data)
		if out, err := XML.Append(nil, m.Document()); !errors.Is(err, ErrNotText) {
			t.Errorf("%q became %s, %v", data, out, err)
		}
	}
}

func FuzzXML(f *testing.F) {
	for _, octets := range corpus(f) {
		f.Add(octets)
	}
	f.Add([]byte(envelope(`<Replace><CmdID>1</CmdID><Item><Data><a b="c">&amp;</a></Data></Item></Replace>`)))
	f.Add([]byte(envelope(`<Put/><Alert><Data>1</Data><Item><Data>&#13;</Data></Item></Alert>`)))
	f.Fuzz(func(t *testing.T, octets []byte) {
		doc, err := XML.Parse(octets, Limits{Octets: 1 << 16})
		if err != nil {
			return
		}
		m, err := Decode(doc, Limits{})
		if err != nil {
			return
		}
		out, err := XML.Append(nil, m.Document())
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		doc2, err := XML.Parse(out, Limits{Octets: 1 << 24})
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%q", err, out)
		}
		m2, err := Decode(doc2, Limits{Commands: 1 << 16})
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%q", err, out)
		}
		again, err := XML.Append(nil, m2.Document())
		if err != nil || string(again) != string(out) {
			t.Fatalf("it changes when it is written again:\n%q\n%q\n%v", out, again, err)
		}
		size := XML.Frame(m.Version)
		for _, e := range m.Document().Root.Children {
			size += XML.Size(e)
		}
		if size != len(out) {
			t.Fatalf("size %d of %d", size, len(out))
		}
	})
}
