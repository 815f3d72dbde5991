package device

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Verify returns the public key of a gateway that may be trusted. chain is in
// DER as it was sent, the gateway's own certificate first.
type Verify func(id *ikewire.ID, chain [][]byte) (crypto.PublicKey, error)

// VerifyGateway is what clients do: a chain to a root, serverAuth among the
// extended key usages, and the name, by which the gateway was called, among the
// certificate's (RFC 4945 section 3.1). The last chain that was found good is
// remembered while all of its certificates are valid: thousands of devices of one
// process meet the same gateway.
func VerifyGateway(roots *x509.CertPool, name string) Verify {
	var good atomic.Pointer[verified]
	return func(_ *ikewire.ID, chain [][]byte) (crypto.PublicKey, error) {
		if v := good.Load(); v != nil && v.is(chain) {
			return v.key, nil
		}
		if len(chain) == 0 {
			return nil, fmt.Errorf("the gateway sent no certificate")
		}
		intermediates := x509.NewCertPool()
		var leaf *x509.Certificate
		for i, der := range chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("certificate %d of the gateway: %w", i, err)
			}
			if i == 0 {
				leaf = cert
			} else {
				intermediates.AddCert(cert)
			}
		}
		paths, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, DNSName: name,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return nil, err
		}
		good.Store(remember(chain, paths[0], leaf.PublicKey))
		return leaf.PublicKey, nil
	}
}

// verified is a chain as it was sent, and until when it is good.
type verified struct {
	chain [][]byte
	until time.Time
	key   crypto.PublicKey
}

func remember(chain [][]byte, path []*x509.Certificate, key crypto.PublicKey) *verified {
	v := &verified{until: path[0].NotAfter, key: key}
	for _, c := range path {
		if c.NotAfter.Before(v.until) {
			v.until = c.NotAfter
		}
	}
	for _, der := range chain {
		v.chain = append(v.chain, bytes.Clone(der))
	}
	return v
}

func (v *verified) is(chain [][]byte) bool {
	return slices.EqualFunc(v.chain, chain, bytes.Equal) && time.Now().Before(v.until)
}
