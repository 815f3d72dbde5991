package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/wbxml"
	"github.com/roamgate/roamgate/integration/netns"
)

// What our WBXML says is what libwbxml says, both ways:
//
//	XML --xml2wbxml--> WBXML --dmlink/wbxml--> message == message of the XML
//	message --dmlink/wbxml--> WBXML --wbxml2xml--> XML --> the same message

// publicID is the document type that xml2wbxml tells the language by.
const publicID = `<?xml version="1.0"?><!DOCTYPE SyncML PUBLIC "-//SYNCML//DTD SyncML %s//EN" "x">`

var documentType = regexp.MustCompile(`<!DOCTYPE[^>]*>`)

func libwbxml(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(from, in, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), name, append(args, "-o", to, from)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	out, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func needsLibwbxml(t *testing.T) {
	t.Helper()
	if os.Getenv(netns.IntegrationEnv) == "" {
		t.Skip("needs libwbxml2-utils: run `make test`, or set " + netns.IntegrationEnv + "=1")
	}
}

func dmMessage(t *testing.T, s syncml.Syntax, octets []byte) *syncml.Message {
	t.Helper()
	doc, err := s.Parse(octets, syncml.Limits{})
	if err != nil {
		t.Fatalf("%v\n%q", err, octets)
	}
	m, err := syncml.Decode(doc, syncml.Limits{})
	if err != nil {
		t.Fatalf("%v\n%q", err, octets)
	}
	return m
}

func TestWBXMLCorpus(t *testing.T) {
	needsLibwbxml(t)
	files, err := filepath.Glob("../dmlink/syncml/testdata/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		octets, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := dmMessage(t, syncml.XML, octets)
		for _, version := range []string{"1.1", "1.2", "1.3"} {
			for _, table := range []string{"-n", ""} {
				t.Run(fmt.Sprintf("%s/%s%s", filepath.Base(file), version, table), func(t *testing.T) {
					args := []string{"-v", version}
					if table != "" {
						args = append(args, table)
					}
					binary := libwbxml(t, append(fmt.Appendf(nil, publicID, want.Version.DTD()), octets...), "xml2wbxml", args...)
					if got := dmMessage(t, wbxml.WBXML, binary); !reflect.DeepEqual(got, want) {
						t.Errorf("theirs read by us: %+v\nwant %+v", got, want)
					}
				})
			}
		}
		t.Run(filepath.Base(file)+"/back", func(t *testing.T) {
			binary, err := wbxml.WBXML.Append(nil, want.Document())
			if err != nil {
				t.Fatal(err)
			}
			text := documentType.ReplaceAll(libwbxml(t, binary, "wbxml2xml", "-m", "0"), nil)
			if got := dmMessage(t, syncml.XML, text); !reflect.DeepEqual(got, want) {
				t.Errorf("ours read by them: %s\nwant %s", text, octets)
			}
		})
	}
}

// Every name of both pages has the token that libwbxml gives it. It gives what
// it doesn't know as a literal in the string table, so there must be none.
func TestWBXMLTokens(t *testing.T) {
	needsLibwbxml(t)
	names := map[syncml.Space]string{
		syncml.SyncML: "Add Alert Archive Atomic Chal Cmd CmdID CmdRef Copy Cred Delete Exec Final Get Item Lang LocName LocURI Map " +
			"MapItem Meta MsgID MsgRef NoResp NoResults Put Replace RespURI Results Search Sequence SessionID SftDel Source SourceRef " +
			"Status Sync SyncBody SyncHdr Target TargetRef VerDTD VerProto NumberOfChanges MoreData Data",
		syncml.MetInf: "Anchor EMI Format FreeID FreeMem Last Mark MaxMsgSize Mem MetInf Next NextNonce SharedMem Size Type Version MaxObjSize",
	}
	since12 := map[syncml.Space]string{
		syncml.SyncML: " Field Filter Record FilterType SourceParent TargetParent Move Correlator",
		syncml.MetInf: " FieldLevel",
	}
	for _, v := range []syncml.Version{syncml.V11, syncml.V12} {
		t.Run(v.DTD(), func(t *testing.T) {
			root := &syncml.Element{Name: "SyncML"}
			var text strings.Builder
			fmt.Fprintf(&text, publicID+`<SyncML xmlns="%s">`, v.DTD(), v.Namespace())
			for space, list := range names {
				if v == syncml.V12 {
					list += since12[space]
				}
				for name := range strings.FieldsSeq(list) {
					root.Children = append(root.Children, &syncml.Element{Space: space, Name: name})
					if space == syncml.MetInf {
						fmt.Fprintf(&text, `<%s xmlns="syncml:metinf"/>`, name)
					} else {
						fmt.Fprintf(&text, `<%s/>`, name)
					}
				}
			}
			text.WriteString(`</SyncML>`)
			ours, err := wbxml.WBXML.Append(nil, syncml.Document{Version: v, Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if theirs := libwbxml(t, []byte(text.String()), "xml2wbxml", "-n", "-v", "1.2"); !bytes.Equal(ours, theirs) {
				t.Errorf("ours   %x\ntheirs %x", ours, theirs)
			}
		})
	}
}
