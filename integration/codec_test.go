package integration

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/traffic"
)

var saveMessages = flag.String("save-messages", "", "folder to save strongSwan's IKE messages and the keys of their SAs in")

// What strongSwan sends, the codec reads and writes again octet for octet: the
// messages as they were on the wire, and what their encrypted payloads hold,
// decrypted here by the standard library alone.
//
//	dev1 (strongSwan) -- [capture] gw (gatewayd, debug.key_log) -- lan
func TestCodecReproducesStrongSwan(t *testing.T) {
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.KeyLog = "keys" }})
	pcap, keys := s.conversations(t)
	table := readIKEKeys(t, filepath.Join(keys, "ikev2_decryption_table"))
	seen := map[ikewire.ExchangeType]int{}
	number := 0
	err := traffic.ReadDatagrams(pcap, func(d traffic.Datagram) error {
		raw, ok := d.IKE()
		if !ok || d.From.Addr() == netns.GatewayOutside {
			return nil
		}
		number++
		m, err := ikewire.Parse(raw)
		if err != nil {
			return fmt.Errorf("message %d: %w\n%x", number, err, raw)
		}
		seen[m.Exchange]++
		if again, err := m.Append(nil); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("message %d is written as\n%x, %v; it was\n%x", number, again, err, raw)
		}
		if sealed, ok := ikewire.Find[*ikewire.Encrypted](m.Payloads); ok {
			checkInner(t, number, raw, sealed, table[fmt.Sprintf("%x", raw[:16])])
		}
		if *saveMessages == "" {
			return nil
		}
		name := fmt.Sprintf("%02d-%s.bin", number, strings.ToLower(m.Exchange.String()))
		return os.WriteFile(filepath.Join(*saveMessages, name), raw, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, exchange := range []ikewire.ExchangeType{ikewire.IKESAInit, ikewire.IKEAuth, ikewire.Informational} {
		if seen[exchange] < 2 {
			t.Errorf("%d messages of %s, want those of two clients", seen[exchange], exchange)
		}
	}
	if *saveMessages != "" {
		text, err := os.ReadFile(filepath.Join(keys, "ikev2_decryption_table"))
		if err == nil {
			err = os.WriteFile(filepath.Join(*saveMessages, "ikev2_decryption_table"), text, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func checkInner(t *testing.T, number int, raw []byte, sealed *ikewire.Encrypted, keys ikeKeys) {
	t.Helper()
	if sealed.Total != 0 {
		t.Errorf("message %d is a fragment: what is inside is not checked", number)
		return
	}
	plain, err := keys.open(raw[:len(raw)-len(sealed.Body)], sealed.Body)
	if err != nil {
		t.Errorf("message %d: %v", number, err)
		return
	}
	inner, err := ikewire.ParsePayloads(sealed.First, plain)
	if err != nil {
		t.Errorf("message %d, inside: %v\n%x", number, err, plain)
		return
	}
	first, again, err := ikewire.AppendPayloads(nil, inner)
	if err != nil || first != sealed.First || !bytes.Equal(again, plain) {
		t.Errorf("message %d, inside, is written as %s\n%x, %v; it was %s\n%x", number, first, again, err, sealed.First, plain)
	}
}

// ikeKeys of what the initiator sends.
type ikeKeys struct {
	encryption, integrity []byte
	gcm                   bool
}

// readIKEKeys reads Wireshark's table: SPIs, SK_ei, SK_er, encryption, SK_ai,
// SK_ar, integrity. The key of the result is both SPIs in hexadecimal.
func readIKEKeys(t *testing.T, path string) map[string]ikeKeys {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]ikeKeys{}
	for _, row := range rows {
		ei, err1 := hex.DecodeString(row[2])
		ai, err2 := hex.DecodeString(row[5])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		table[row[0]+row[1]] = ikeKeys{ei, ai, strings.Contains(row[4], "GCM")}
	}
	return table
}

// open decrypts the body of an SK payload, from the IV to the checksum, which
// for AES-CBC (HMAC-SHA2-256-128) isn't looked at (RFC 7296 section 3.14, RFC
// 5282 sections 3 and 5.1).
func (k ikeKeys) open(before, body []byte) ([]byte, error) {
	size := len(k.encryption)
	if k.gcm {
		size -= 4 // the salt
	}
	if size < 16 || len(body) < 32 {
		return nil, fmt.Errorf("no keys for this SA, or %d octets of SK", len(body))
	}
	block, err := aes.NewCipher(k.encryption[:size])
	if err != nil {
		return nil, err
	}
	var plain []byte
	if k.gcm {
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		nonce := append(bytes.Clone(k.encryption[size:]), body[:8]...)
		if plain, err = aead.Open(nil, nonce, body[8:], before); err != nil {
			return nil, err
		}
	} else {
		plain = bytes.Clone(body[16 : len(body)-16])
		if len(plain) == 0 || len(plain)%16 != 0 {
			return nil, fmt.Errorf("%d octets of CBC", len(plain))
		}
		cipher.NewCBCDecrypter(block, body[:16]).CryptBlocks(plain, plain)
	}
	padding := int(plain[len(plain)-1]) + 1
	if padding > len(plain) {
		return nil, fmt.Errorf("padding of %d octets in %d", padding, len(plain))
	}
	return plain[:len(plain)-padding], nil
}
