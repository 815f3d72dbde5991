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

// Log appends to both tables. It is safe for concurrent use.
type Log struct {
	mu       sync.Mutex
	ike, esp *os.File
}

// Open makes the folder and the tables, for their owner only, or appends to
// those there are.
func Open(dir string) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("key log: %w", err)
	}
	l := &Log{}
	for name, file := range map[string]**os.File{ikeTable: &l.ike, espTable: &l.esp} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
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
		_, err := l.esp.WriteString(espLine(c.Peer, c.Gateway, c.Algorithm, c.Inbound) + espLine(c.Gateway, c.Peer, c.Algorithm, c.Outbound))
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

// ikeLine: both SPIs, SK_ei, SK_er, encryption, SK_ai, SK_ar, integrity.
func ikeLine(k *ike.IKEKeyLog) string {
	encryption := fmt.Sprintf("AES-CBC-%d [RFC3602]", k.KeyBits)
	if k.Encryption == ikewire.EncrAESGCM16 {
		encryption = fmt.Sprintf("AES-GCM-%d with 16 octet ICV [RFC5282]", k.KeyBits)
	}
	integrity := "NONE [RFC4306]"
	switch k.Integrity {
	case ikewire.IntegHMACSHA256:
		integrity = "HMAC_SHA2_256_128 [RFC4868]"
	case ikewire.IntegHMACSHA384:
		integrity = "HMAC_SHA2_384_192 [RFC4868]"
	case ikewire.IntegHMACSHA512:
		integrity = "HMAC_SHA2_512_256 [RFC4868]"
	}
	return fmt.Sprintf("%016x,%016x,%x,%x,%q,%x,%x,%q\n", k.InitiatorSPI, k.ResponderSPI, k.Ei, k.Er, encryption, k.Ai, k.Ar, integrity)
}

// espLine: protocol, source, destination, SPI, encryption, key with salt,
// authentication, key.
func espLine(source, destination netip.Addr, a dataplane.Algorithm, sa dataplane.SA) string {
	protocol := "IPv4"
	if source.Unmap().Is6() {
		protocol = "IPv6"
	}
	encryption := "AES-CBC [RFC3602]"
	if a.Encryption == ikewire.EncrAESGCM16 {
		encryption = "AES-GCM with 16 octet ICV [RFC4106]"
	}
	authentication := "NULL"
	switch a.Integrity {
	case ikewire.IntegHMACSHA256:
		authentication = "HMAC-SHA-256-128 [RFC4868]"
	case ikewire.IntegHMACSHA384:
		authentication = "HMAC-SHA-384-192 [RFC4868]"
	case ikewire.IntegHMACSHA512:
		authentication = "HMAC-SHA-512-256 [RFC4868]"
	}
	integrityKey := ""
	if len(sa.Keys.Integrity) > 0 {
		integrityKey = "0x" + hex.EncodeToString(sa.Keys.Integrity)
	}
	return fmt.Sprintf("%q,%q,%q,\"0x%08x\",%q,\"0x%x\",%q,%q\n", protocol, source.Unmap(), destination.Unmap(), uint32(sa.SPI),
		encryption, sa.Keys.Encryption, authentication, integrityKey)
}
