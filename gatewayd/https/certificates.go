package https

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
)

// Certificates of a server, which can be replaced while it runs.
type Certificates struct {
	list atomic.Pointer[[]tls.Certificate]
}

// errNoCertificate is told to nobody: the handshake ends with an alert.
var errNoCertificate = errors.New("no certificate")

// Use these from the next handshake on. Leaf has to be set.
func (c *Certificates) Use(list []tls.Certificate) { c.list.Store(&list) }

// get chooses by name, and among those by what the client takes; the first where
// none fits.
func (c *Certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p := c.list.Load()
	if p == nil || len(*p) == 0 {
		return nil, errNoCertificate
	}
	list := *p
	name := strings.TrimSuffix(hello.ServerName, ".")
	var usable *tls.Certificate
	for i := range list {
		if hello.SupportsCertificate(&list[i]) != nil {
			continue
		}
		if name == "" || list[i].Leaf.VerifyHostname(name) == nil {
			return &list[i], nil
		}
		if usable == nil {
			usable = &list[i]
		}
	}
	if usable == nil {
		usable = &list[0]
	}
	return usable, nil
}
