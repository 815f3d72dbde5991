package ike

import (
	"github.com/roamgate/roamgate/control/ikewire"
)

// errorNotify returns the first notification that is an error (RFC 7296
// section 3.10.1: types below 16384), or nil.
func errorNotify(payloads []ikewire.Payload) *ikewire.Notify {
	for _, p := range payloads {
		if n, ok := p.(*ikewire.Notify); ok && n.NotifyType < 16384 {
			return n
		}
	}
	return nil
}

func notify(t ikewire.NotifyType, data []byte) *ikewire.Notify {
	return &ikewire.Notify{NotifyType: t, Data: data}
}

// unknownCritical finds a payload that must not be ignored.
func unknownCritical(payloads []ikewire.Payload) (ikewire.PayloadType, bool) {
	for _, p := range payloads {
		if u, ok := p.(*ikewire.Unknown); ok && u.Critical {
			return u.Type(), true
		}
	}
	return 0, false
}

// selectorsOf returns the traffic selector payloads of both sides.
func selectorsOf(payloads []ikewire.Payload) (tsi, tsr *ikewire.TS) {
	for _, p := range payloads {
		if ts, ok := p.(*ikewire.TS); ok {
			if ts.Initiator {
				tsi = ts
			} else {
				tsr = ts
			}
		}
	}
	return tsi, tsr
}

// identityOf returns IDi or IDr.
func identityOf(payloads []ikewire.Payload, initiator bool) *ikewire.ID {
	for _, p := range payloads {
		if id, ok := p.(*ikewire.ID); ok && id.Initiator == initiator {
			return id
		}
	}
	return nil
}

// authoritiesOf are the CAs that a peer trusts, 20 octets each; at most 64.
func authoritiesOf(payloads []ikewire.Payload) []byte {
	var b []byte
	for _, p := range payloads {
		if c, ok := p.(*ikewire.CertReq); ok && c.Encoding == ikewire.CertX509Signature && len(b)+len(c.Data) <= 64*20 {
			b = append(b, c.Data...)
		}
	}
	return b
}

// maxCertificates a peer may send; package admit is stricter still.
const maxCertificates = 8

// chainOf returns the certificates in the order sent, the peer's own first
// (RFC 7296 section 3.6: encoding 4, X.509 certificate - signature).
func chainOf(payloads []ikewire.Payload) [][]byte {
	var chain [][]byte
	for _, p := range payloads {
		if c, ok := p.(*ikewire.Cert); ok && c.Encoding == ikewire.CertX509Signature && len(chain) < maxCertificates {
			chain = append(chain, c.Data)
		}
	}
	return chain
}
