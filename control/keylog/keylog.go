// Package keylog writes session keys where Wireshark finds them: the tables
// ikev2_decryption_table and esp_sa of its profile folder. `tshark` and
// Wireshark read them with WIRESHARK_CONFIG_DIR set to the folder.
//
// It exists for the laboratory: who reads these files reads all traffic.
package keylog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Names of the tables, which are Wireshark's.
const (
	ikeTable = "ikev2_decryption_table"
	espTable = "esp_sa"
)

// Config of a Log.
type Config struct {
	Dir string
	// ESN: Child SAs may have extended sequence numbers. Their upper half is part
	// of what the ICV covers (RFC 4303 section 2.2.1) and dissectors don't know
	// it, so they are told not to check ICVs. Decryption needs none of it.
	ESN bool
}

// Log appends to both tables. It is safe for concurrent use.
type Log struct {
	esn      bool
	mu       sync.Mutex
	ike, esp *os.File
}

// Open makes the folder and the tables, for their owner only, or appends to
// those there are.
func Open(c Config) (*Log, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("key log: %w", err)
	}
	l := &Log{esn: c.ESN}
	for name, file := range map[string]**os.File{ikeTable: &l.ike, espTable: &l.esp} {
		f, err := os.OpenFile(filepath.Join(c.Dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			*file, err = f, f.Chmod(0o600)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("key log: %w", err), l.Close())
		}
	}
	return l, nil
}

// Add writes the keys of an IKE SA, of a Child SA or of both, and erases them.
func (l *Log) Add(k ike.KeysDerived) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if k.IKE != nil {
		_, err := l.ike.WriteString(ikeLine(k.IKE))
		errs = append(errs, err)
		erase(k.IKE.Ei, k.IKE.Er, k.IKE.Ai, k.IKE.Ar)
	}
	if c := k.Child; c != nil {
		_, err := l.esp.WriteString(l.espLine(c.Peer, c.Gateway, c.Algorithm, c.Inbound) + l.espLine(c.Gateway, c.Peer, c.Algorithm, c.Outbound))
		errs = append(errs, err)
		erase(c.Inbound.Keys.Encryption, c.Inbound.Keys.Integrity, c.Outbound.Keys.Encryption, c.Outbound.Keys.Integrity)
	}
	return errors.Join(errs...)
}

// Close closes the tables; the files stay.
func (l *Log) Close() error {
	var errs []error
	for _, f := range []*os.File{l.ike, l.esp} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func erase(keys ...[]byte) {
	for _, k := range keys {
		clear(k)
	}
}

// ikeLine: both SPIs, SK_ei, SK_er, encryption, SK_ai, SK_ar, integrity. The
// table has no ChaCha20-Poly1305, and Wireshark gives up the whole table for an
// algorithm it doesn't know, so that line is a comment.
func ikeLine(k *ike.IKEKeyLog) string {
	var comment, encryption string
	switch k.Encryption {
	case ikewire.EncrAESGCM16:
		encryption = fmt.Sprintf("AES-GCM-%d with 16 octet ICV [RFC5282]", k.KeyBits)
	case ikewire.EncrChaCha20Poly1305:
		comment, encryption = "# ", "ChaCha20-Poly1305 [RFC7634]"
	case ikewire.Encr3DES:
		encryption = "3DES [RFC2451]"
	default:
		encryption = fmt.Sprintf("AES-CBC-%d [RFC3602]", k.KeyBits)
	}
	integrity := "NONE [RFC4306]"
	switch k.Integrity {
	case ikewire.IntegHMACSHA1:
		integrity = "HMAC_SHA1_96 [RFC2404]"
	case ikewire.IntegHMACSHA256:
		integrity = "HMAC_SHA2_256_128 [RFC4868]"
	case ikewire.IntegHMACSHA384:
		integrity = "HMAC_SHA2_384_192 [RFC4868]"
	case ikewire.IntegHMACSHA512:
		integrity = "HMAC_SHA2_512_256 [RFC4868]"
	}
	return fmt.Sprintf("%s%016x,%016x,%x,%x,%q,%x,%x,%q\n", comment, k.InitiatorSPI, k.ResponderSPI, k.Ei, k.Er, encryption, k.Ai, k.Ar, integrity)
}

// espLine: protocol, source, destination, SPI, encryption, key with salt,
// authentication, key. Newer versions of Wireshark know ChaCha20-Poly1305 (4.0
// doesn't); for the others' sake its lines are comments, which `sed -i 's/^# //'`
// brings to life.
func (l *Log) espLine(source, destination netip.Addr, a dataplane.Algorithm, sa dataplane.SA) string {
	protocol := "IPv4"
	if source.Unmap().Is6() {
		protocol = "IPv6"
	}
	comment, encryption := "", "AES-CBC [RFC3602]"
	switch a.Encryption {
	case ikewire.EncrAESGCM16:
		encryption = "AES-GCM with 16 octet ICV [RFC4106]"
	case ikewire.EncrChaCha20Poly1305:
		comment, encryption = "# ", "ChaCha20 with Poly1305 [RFC7634]"
	case ikewire.Encr3DES:
		encryption = "TripleDES-CBC [RFC2451]"
	}
	integrityKey := ""
	if len(sa.Keys.Integrity) > 0 {
		integrityKey = "0x" + hex.EncodeToString(sa.Keys.Integrity)
	}
	return fmt.Sprintf("%s%q,%q,%q,\"0x%08x\",%q,\"0x%x\",%q,%q\n", comment, protocol, source.Unmap(), destination.Unmap(), uint32(sa.SPI),
		encryption, sa.Keys.Encryption, l.authentication(a.Integrity), integrityKey)
}

func (l *Log) authentication(integrity uint16) string {
	var checked string
	var icvBits int
	switch integrity {
	case ikewire.IntegHMACSHA1:
		checked, icvBits = "HMAC-SHA-1-96 [RFC2404]", 96
	case ikewire.IntegHMACSHA256:
		checked, icvBits = "HMAC-SHA-256-128 [RFC4868]", 128
	case ikewire.IntegHMACSHA384:
		checked, icvBits = "HMAC-SHA-384-192 [RFC4868]", 192
	case ikewire.IntegHMACSHA512:
		checked, icvBits = "HMAC-SHA-512-256 [RFC4868]", 256
	default:
		return "NULL"
	}
	if l.esn {
		return fmt.Sprintf("ANY %d bit authentication [no checking]", icvBits)
	}
	return checked
}
