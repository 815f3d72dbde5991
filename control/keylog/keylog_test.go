package keylog

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

func key(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

func gcm() ike.KeysDerived {
	return ike.KeysDerived{
		IKE: &ike.IKEKeyLog{
			InitiatorSPI: 0x0102030405060708, ResponderSPI: 0x00a1b2c3d4e5f607,
			Encryption: ikewire.EncrAESGCM16, KeyBits: 128, Ei: key(20), Er: key(20),
		},
		Child: &ike.ChildKeyLog{
			Gateway: netip.MustParseAddr("10.1.0.1"), Peer: netip.MustParseAddr("10.1.0.2"),
			Algorithm: dataplane.Algorithm{Encryption: ikewire.EncrAESGCM16, KeyBits: 128},
			Inbound:   dataplane.SA{SPI: 0x100, Keys: dataplane.Keys{Encryption: key(20)}},
			Outbound:  dataplane.SA{SPI: 0xc0ffee00, Keys: dataplane.Keys{Encryption: key(20)}},
		},
	}
}

func cbc(integrity uint16, ikeLen int) ike.KeysDerived {
	return ike.KeysDerived{
		IKE: &ike.IKEKeyLog{
			InitiatorSPI: 1, ResponderSPI: 2, Encryption: ikewire.EncrAESCBC, KeyBits: 256, Integrity: integrity,
			Ei: key(32), Er: key(32), Ai: key(ikeLen), Ar: key(ikeLen),
		},
		Child: &ike.ChildKeyLog{
			Gateway: netip.MustParseAddr("2001:db8::1"), Peer: netip.MustParseAddr("2001:db8::2"),
			Algorithm: dataplane.Algorithm{Encryption: ikewire.EncrAESCBC, KeyBits: 256, Integrity: integrity},
			Inbound:   dataplane.SA{SPI: 0x101, Keys: dataplane.Keys{Encryption: key(32), Integrity: key(ikeLen)}},
			Outbound:  dataplane.SA{SPI: 0x102, Keys: dataplane.Keys{Encryption: key(32), Integrity: key(ikeLen)}},
		},
	}
}

func chacha() ike.KeysDerived {
	k := gcm()
	k.IKE.Encryption, k.IKE.KeyBits, k.IKE.Ei, k.IKE.Er = ikewire.EncrChaCha20Poly1305, 0, key(36), key(36)
	k.Child.Algorithm = dataplane.Algorithm{Encryption: ikewire.EncrChaCha20Poly1305}
	k.Child.Inbound.Keys.Encryption, k.Child.Outbound.Keys.Encryption = key(36), key(36)
	return k
}

func tripleDES() ike.KeysDerived {
	k := cbc(ikewire.IntegHMACSHA1, 20)
	k.IKE.Encryption, k.IKE.KeyBits, k.IKE.Ei, k.IKE.Er = ikewire.Encr3DES, 0, key(24), key(24)
	k.Child.Algorithm = dataplane.Algorithm{Encryption: ikewire.Encr3DES, Integrity: ikewire.IntegHMACSHA1}
	k.Child.Inbound.Keys.Encryption, k.Child.Outbound.Keys.Encryption = key(24), key(24)
	return k
}

func write(t *testing.T, keys ...ike.KeysDerived) string { return writeAs(t, Config{}, keys...) }

func writeAs(t *testing.T, c Config, keys ...ike.KeysDerived) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	c.Dir = dir
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := l.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLines(t *testing.T) {
	dir := write(t, gcm())
	const hex20 = "0102030405060708090a0b0c0d0e0f1011121314"
	for table, want := range map[string]string{
		ikeTable: `0102030405060708,00a1b2c3d4e5f607,` + hex20 + `,` + hex20 + `,"AES-GCM-128 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"` + "\n",
		espTable: `"IPv4","10.1.0.2","10.1.0.1","0x00000100","AES-GCM with 16 octet ICV [RFC4106]","0x` + hex20 + `","NULL",""` + "\n" +
			`"IPv4","10.1.0.1","10.1.0.2","0xc0ffee00","AES-GCM with 16 octet ICV [RFC4106]","0x` + hex20 + `","NULL",""` + "\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, table))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", table, got, want)
		}
	}
}

// Each algorithm has a name that Wireshark knows; with ESN the ICV is not
// checked, and what the table for IKE can't express is a comment in it.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		config   Config
		keys     ike.KeysDerived
		ike, esp string
	}{
		{Config{}, chacha(), `# 0102030405060708,`, `"ChaCha20 with Poly1305 [RFC7634]","0x0102`},
		{Config{}, tripleDES(), `,"3DES [RFC2451]",`, `"TripleDES-CBC [RFC2451]","0x0102`},
		{Config{}, tripleDES(), `,"HMAC_SHA1_96 [RFC2404]"`, `"HMAC-SHA-1-96 [RFC2404]","0x0102`},
		{Config{}, cbc(ikewire.IntegHMACSHA256, 32), `"AES-CBC-256 [RFC3602]"`, `"HMAC-SHA-256-128 [RFC4868]","0x0102`},
		{Config{ESN: true}, cbc(ikewire.IntegHMACSHA256, 32), `"HMAC_SHA2_256_128 [RFC4868]"`, `"ANY 128 bit authentication [no checking]","0x0102`},
		{Config{ESN: true}, cbc(ikewire.IntegHMACSHA512, 64), `"HMAC_SHA2_512_256 [RFC4868]"`, `"ANY 256 bit authentication [no checking]","0x0102`},
		{Config{ESN: true}, tripleDES(), `"HMAC_SHA1_96 [RFC2404]"`, `"ANY 96 bit authentication [no checking]","0x0102`},
		{Config{ESN: true}, gcm(), `"NONE [RFC4306]"`, `"NULL",""`},
	} {
		dir := writeAs(t, tt.config, tt.keys)
		for table, want := range map[string]string{ikeTable: tt.ike, espTable: tt.esp} {
			got, err := os.ReadFile(filepath.Join(dir, table))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(got), want) {
				t.Errorf("%s lacks %s:\n%s", table, want, got)
			}
		}
	}
}

// Keys are for one user's eyes, and gone from memory once they are written.
func TestSecrecy(t *testing.T) {
	k := gcm()
	dir := write(t, k)
	for _, name := range []string{ikeTable, espTable} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for _, b := range [][]byte{k.IKE.Ei, k.IKE.Er, k.Child.Inbound.Keys.Encryption, k.Child.Outbound.Keys.Encryption} {
		for _, octet := range b {
			if octet != 0 {
				t.Fatal("a key is still in memory")
			}
		}
	}
}

// A second life appends: captures span restarts.
func TestAppends(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		l, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Add(gcm()); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, espTable))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 4 {
		t.Errorf("%d lines after two lives of two, want 4", n)
	}
}

// tshark takes every kind of line without a word; it complains about those it
// can't read. That packets decode is shown by the integration tests.
func TestTsharkReadsTables(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	for _, esn := range []bool{false, true} {
		readsTables(t, tshark, writeAs(t, Config{ESN: esn}, chacha(), tripleDES(), gcm(),
			cbc(ikewire.IntegHMACSHA256, 32), cbc(ikewire.IntegHMACSHA384, 48), cbc(ikewire.IntegHMACSHA512, 64)))
	}
}

func readsTables(t *testing.T, tshark, dir string) {
	t.Helper()
	// The header of a capture without packets.
	capture := filepath.Join(t.TempDir(), "empty.pcap")
	header := "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x01\x00\x00\x00"
	if err := os.WriteFile(capture, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		cmd := exec.Command(tshark, "-r", capture)
		cmd.Env = append(os.Environ(), "WIRESHARK_CONFIG_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("tshark: %v\n%s", err, out)
		}
		return string(out)
	}
	if out := run(); strings.Contains(out, ikeTable) || strings.Contains(out, espTable) || strings.Contains(out, "Error") {
		t.Errorf("tshark complains:\n%s", out)
	}
	// It would: a line that is wrong is reported.
	for _, table := range []string{ikeTable, espTable} {
		f, err := os.OpenFile(filepath.Join(dir, table), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("\"nonsense\"\n"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if out := run(); !strings.Contains(out, table) {
			t.Errorf("tshark takes nonsense in %s:\n%s", table, out)
		}
	}
}
