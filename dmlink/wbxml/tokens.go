package wbxml

import "github.com/roamgate/roamgate/dmlink/syncml"

// Global tokens (WAP-192 section 7.1).
const (
	switchPage = 0x00
	end        = 0x01
	entity     = 0x02
	strI       = 0x03
	literal    = 0x04
	strT       = 0x83
	opaque     = 0xC3

	// Bits of a tag.
	hasContent    = 0x40
	hasAttributes = 0x80
	tagMask       = 0x3F
)

// firstTag is the token of the first name of a page.
const firstTag = 0x05

// Names by token, from firstTag on; an empty one is reserved
// (OMA-TS-SyncML_RepPro-V1_2_2 section 8, OMA-TS-SyncML_MetaInfo-V1_2_2
// section 7).
var pages = [...][]string{
	syncml.SyncML: {
		"Add", "Alert", "Archive", "Atomic", "Chal", "Cmd", "CmdID", "CmdRef", "Copy", "Cred", "Data",
		"Delete", "Exec", "Final", "Get", "Item", "Lang", "LocName", "LocURI", "Map", "MapItem", "Meta",
		"MsgID", "MsgRef", "NoResp", "NoResults", "Put", "Replace", "RespURI", "Results", "Search",
		"Sequence", "SessionID", "SftDel", "Source", "SourceRef", "Status", "Sync", "SyncBody", "SyncHdr",
		"SyncML", "Target", "TargetRef", "", "VerDTD", "VerProto", "NumberOfChanges", "MoreData",
		// Since 1.2.
		"Field", "Filter", "Record", "FilterType", "SourceParent", "TargetParent", "Move", "Correlator",
	},
	syncml.MetInf: {
		"Anchor", "EMI", "Format", "FreeID", "FreeMem", "Last", "Mark", "MaxMsgSize", "Mem", "MetInf",
		"Next", "NextNonce", "SharedMem", "Size", "Type", "Version", "MaxObjSize",
		// Since 1.2.
		"FieldLevel",
	},
}

// lastTag11 of each page is the last token that SyncML 1.1 has.
var lastTag11 = [...]byte{syncml.SyncML: 0x34, syncml.MetInf: 0x15}

var tags = func() (byName [len(pages)]map[string]byte) {
	for page, names := range pages {
		byName[page] = make(map[string]byte, len(names))
		for i, name := range names {
			if name != "" {
				byName[page][name] = byte(firstTag + i)
			}
		}
	}
	return byName
}()

// tagName of a token without its bits.
func tagName(page syncml.Space, token byte) (string, bool) {
	i := int(token) - firstTag
	if i < 0 || i >= len(pages[page]) || pages[page][i] == "" {
		return "", false
	}
	return pages[page][i], true
}

// Public identifiers, as a number and as a name in the string table.
var publicIDs = [...]struct {
	number uint32
	name   string
}{
	syncml.V12: {0x1201, "-//SYNCML//DTD SyncML 1.2//EN"},
	syncml.V11: {0x0FD3, "-//SYNCML//DTD SyncML 1.1//EN"},
}

// charsetUTF8 is its MIBenum (IANA).
const charsetUTF8 = 106

// Versions on the wire: 0x01 is 1.1, 0x03 is 1.3.
const (
	oldestVersion = 0x01
	sentVersion   = 0x02
	newestVersion = 0x03
)
