package identity

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/roamgate/roamgate/control/ike"
)

// Many is a Source of devices that somebody enrolled: the number is the place in
// the list, and starts over behind its end.
type Many struct{ list []Identity }

// Len is how many there are, at least one.
func (m *Many) Len() uint64 { return uint64(len(m.list)) }

func (m *Many) Identity(number uint64) (Identity, error) { return m.list[number%m.Len()], nil }

// LoadAll reads devices from a folder or a file. A folder has NAME.pem and
// NAME.key of each, and NAME.ca.pem if there are CAs between, as `gatewayd
// enrollment join` leaves them, in any depth. A file has them one after the
// other, see Append.
func LoadAll(path string) (*Many, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	m := new(Many)
	if info.IsDir() {
		err = m.folder(path)
	} else {
		err = m.file(path)
	}
	if err == nil && len(m.list) == 0 {
		err = fmt.Errorf("%s: no device: expected NAME.pem and NAME.key, or a file with certificates and keys", path)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Many) folder(path string) error {
	return filepath.WalkDir(path, func(key string, d os.DirEntry, err error) error {
		name, ok := strings.CutSuffix(key, ".key")
		if err != nil || d.IsDir() || !ok {
			return err
		}
		one, err := Load(name+".pem", key)
		if err != nil {
			return err
		}
		id := one.identity
		above, err := certificates(name + ".ca.pem")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, c := range above {
			if c.CheckSignatureFrom(c) != nil { // a root need not be sent
				id.Credential.Chain = append(id.Credential.Chain, c.Raw)
			}
		}
		m.list = append(m.list, id)
		return nil
	})
}

// file: a key ends the device whose certificates stand before it.
func (m *Many) file(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	defer clear(raw)
	var chain []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("%s, device %d: %w", path, len(m.list)+1, err)
			}
			chain = append(chain, c)
			continue
		}
		key, err := parseKey(block.Bytes)
		clear(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s, device %d: %w", path, len(m.list)+1, err)
		}
		id, err := identityOf(chain, key)
		if err != nil {
			return fmt.Errorf("%s, device %d: %w", path, len(m.list)+1, err)
		}
		m.list = append(m.list, id)
		chain = nil
	}
	if len(chain) > 0 {
		return fmt.Errorf("%s: the last certificate has no key behind it", path)
	}
	return nil
}

// Append writes one device as LoadAll reads it from a file: its certificate, the
// CAs above without the root, and its key as PKCS #8. The file is as secret as
// the key.
func Append(w io.Writer, chain []*x509.Certificate, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	for i, c := range chain {
		if i > 0 && c.CheckSignatureFrom(c) == nil {
			continue
		}
		if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	return pem.Encode(w, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// identityOf a certificate with its chain and its key.
func identityOf(chain []*x509.Certificate, key crypto.Signer) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, errors.New("a key without a certificate before it")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return Identity{}, errors.New("the key isn't that of the certificate")
	}
	name := chain[0].Subject.CommonName
	if len(chain[0].DNSNames) > 0 {
		name = chain[0].DNSNames[0]
	}
	if name == "" {
		return Identity{}, errors.New("the certificate has neither a domain name nor a common name")
	}
	c := ike.Credential{Signer: key}
	for _, cert := range chain {
		c.Chain = append(c.Chain, cert.Raw)
	}
	return Identity{ID: fqdn(name), Credential: c}, nil
}
