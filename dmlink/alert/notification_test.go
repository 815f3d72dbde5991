package alert

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// vectors were computed from the specification by another program, octet by
// octet.
var vectors = []struct {
	name            string
	n               Notification
	password, nonce string
	octets          string
}{{
	"background", Notification{Version: syncml.V12, UI: Background, Initiator: ByServer, SessionID: 0x1234, Server: "com.roamgate.dm"},
	"OhBehave", "Nonce",
	"90289b83f750dc25e65e608ee6879a36" + "031800000012340f" + "636f6d2e726f616d676174652e646d",
}, {
	"version 1.1, a user, a vendor, retry nonce",
	Notification{Version: syncml.V11, UI: Interactive, Initiator: ByServer, SessionID: 0xffff, Server: "srv", Vendor: []byte("\x01vendor")},
	"secret", "\x00\x00\x00\x00",
	"c09c22d6b319cadba0d0648c556a65d9" + "02f8000000ffff03" + "737276" + "0176656e646f72",
}, {
	"the longest name, no password", Notification{Version: syncml.V12, SessionID: 1, Server: strings.Repeat("x", 255)},
	"", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
	"ef838d2fce278c71105714d423b06ac2" + "03000000000001ff" + strings.Repeat("78", 255),
}, {
	"informative", Notification{Version: syncml.V12, UI: Informative, Initiator: ByServer, Server: "com.roamgate.dm"},
	"OhBehave", "\x00\x00\x00\x00",
	"6ddd237e322c018a51c286c2e153f316" + "032800000000000f" + "636f6d2e726f616d676174652e646d",
}}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			octets, err := v.n.Append([]byte("before"), []byte(v.password), []byte(v.nonce))
			if err != nil {
				t.Fatal(err)
			}
			octets = octets[len("before"):]
			if got := hex.EncodeToString(octets); got != v.octets {
				t.Errorf("octets\n%s, want\n%s", got, v.octets)
			}
			got, err := Parse(octets)
			if err != nil || !reflect.DeepEqual(*got, v.n) {
				t.Errorf("parsed %+v, %v", got, err)
			}
			if resync, err := Verify(octets, []byte(v.password), []byte(v.nonce)); err != nil || resync {
				t.Errorf("resync %t, %v", resync, err)
			}
		})
	}
}

// A device believes its server with its own nonce or the one for retries, and
// nobody else; no bit of a notification can be changed.
func TestVerify(t *testing.T) {
	n := Notification{Version: syncml.V12, UI: Background, Initiator: ByServer, SessionID: 7, Server: "srv", Vendor: []byte{1}}
	password, nonce := []byte("password"), []byte("nonce")
	sign := func(password, nonce []byte) []byte {
		octets, err := n.Append(nil, password, nonce)
		if err != nil {
			t.Fatal(err)
		}
		return octets
	}
	good := sign(password, nonce)
	if resync, err := Verify(sign(password, RetryNonce), password, nonce); err != nil || !resync {
		t.Errorf("retry nonce: resync %t, %v", resync, err)
	}
	for name, octets := range map[string][]byte{
		"another password": sign([]byte("Password"), nonce),
		"another nonce":    sign(password, []byte("nonce of yesterday")),
		"no nonce":         sign(password, nil),
	} {
		if _, err := Verify(octets, password, nonce); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 0x80 >> (bit % 8)
		if _, err := Verify(bad, password, nonce); !errors.Is(err, ErrDigest) && !errors.Is(err, ErrMalformed) {
			t.Errorf("bit %d changed: %v", bit, err)
		}
	}
	for length := range good {
		if _, err := Verify(good[:length], password, nonce); err == nil {
			t.Errorf("believed %d octets of %d", length, len(good))
		}
	}
}

func TestLimits(t *testing.T) {
	for name, n := range map[string]Notification{
		"no server":   {},
		"long server": {Server: strings.Repeat("x", 256)},
		"long vendor": {Server: "s", Vendor: make([]byte, MaxVendor+1)},
		"no such UI":  {Server: "s", UI: 4},
		"nobody's":    {Server: "s", Initiator: 2},
	} {
		if octets, err := n.Append(nil, nil, nil); !errors.Is(err, ErrInvalid) || len(octets) > 0 {
			t.Errorf("%s: %d octets, %v", name, len(octets), err)
		}
	}
	longest := Notification{Server: strings.Repeat("x", 255), Vendor: make([]byte, MaxVendor)}
	octets, err := longest.Append(nil, nil, nil)
	if err != nil || len(octets) != MaxNotification {
		t.Fatalf("%d octets, %v", len(octets), err)
	}
	if _, err := Parse(octets); err != nil {
		t.Error(err)
	}
	if _, err := Parse(append(octets, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one octet more: %v", err)
	}
	for name, s := range map[string]string{
		"version 1.3":           "034800000000010173",
		"no server":             "0318000000000100",
		"nothing of the server": "0318000000000101",
		"half of the server":    "03180000000001027373"[:18],
	} {
		trigger, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Parse(append(make([]byte, 16), trigger...)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	// What is kept for the future is no reason to refuse.
	trigger, _ := hex.DecodeString("031fffffff00010173")
	if n, err := Parse(append(make([]byte, 16), trigger...)); err != nil || n.SessionID != 1 || n.UI != Background {
		t.Errorf("%+v, %v", n, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		octets, err := hex.DecodeString(v.octets)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(octets)
		f.Add(octets[:20])
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		n, err := Parse(octets)
		if err != nil {
			return
		}
		password, nonce := []byte("p"), []byte("n")
		if _, err := Verify(octets, password, nonce); err == nil {
			t.Fatal("forged")
		}
		again, err := n.Append(nil, password, nonce)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(again)
		if err != nil || !reflect.DeepEqual(n, m) {
			t.Fatalf("%+v came back as %+v, %v", n, m, err)
		}
		if _, err := Verify(again, password, nonce); err != nil {
			t.Fatal(err)
		}
	})
}
