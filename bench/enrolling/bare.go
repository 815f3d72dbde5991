// Package enrolling measures what an enrollment can't cost less than: its
// public-key cryptography, on this machine.
//
// What lives here: the operations, done alone. What doesn't: the load.
package enrolling

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/enrollment/client"
)

// Cost of one operation in processor time.
type Cost struct {
	Name string
	// Each is the median of Rounds bursts.
	Each time.Duration
}

// Bursts of a measurement.
const (
	rounds  = 9
	minimum = 20 * time.Millisecond // the clock has to have something to tell
)

// Bare is the cost of each operation of one enrollment with keys of this kind,
// at a server with an ECDSA P-256 CA and TLS key. Nothing else may run in this
// process meanwhile.
func Bare(ctx context.Context, algorithm client.KeyAlgorithm) ([]Cost, error) {
	b, err := newBare(algorithm)
	if err != nil {
		return nil, err
	}
	var costs []Cost
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"key of the device", func() error { _, err := client.GenerateKey(algorithm); return err }},
		{"TLS 1.3 handshake, both ends", b.handshake},
		{"CSR, signed", func() error { _, err := b.request(); return err }},
		{"CSR, verified", b.verifyRequest},
		{"certificate, signed and checked", b.issue},
		{"certificate and chain, verified", b.verifyPath},
	} {
		each, err := median(ctx, op.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		costs = append(costs, Cost{op.name, each})
	}
	return costs, nil
}

// Sum of all costs.
func Sum(costs []Cost) (sum time.Duration) {
	for _, c := range costs {
		sum += c.Each
	}
	return sum
}

func median(ctx context.Context, do func() error) (time.Duration, error) {
	var each []time.Duration
	for range rounds {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		before, err := processTime()
		if err != nil {
			return 0, err
		}
		var spent time.Duration
		n := 0
		for spent < minimum {
			if err := do(); err != nil {
				return 0, err
			}
			n++
			after, err := processTime()
			if err != nil {
				return 0, err
			}
			spent = after - before
		}
		each = append(each, spent/time.Duration(n))
	}
	slices.Sort(each)
	return each[len(each)/2], nil
}

func processTime() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// bare has what the operations work on.
type bare struct {
	key                   crypto.Signer
	csr                   []byte
	rootKey, caKey        *ecdsa.PrivateKey
	root, issuing, leaf   *x509.Certificate
	roots, intermediates  *x509.CertPool
	serverTLS, deviceSide *tls.Config
}

func newBare(algorithm client.KeyAlgorithm) (*bare, error) {
	b := &bare{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	var err error
	if b.key, err = client.GenerateKey(algorithm); err != nil {
		return nil, err
	}
	if b.csr, err = b.request(); err != nil {
		return nil, err
	}
	if b.rootKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if b.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := authority(1)
	if b.root, err = sign(template, template, b.rootKey.Public(), b.rootKey); err != nil {
		return nil, err
	}
	if b.issuing, err = sign(authority(2), b.root, b.caKey.Public(), b.rootKey); err != nil {
		return nil, err
	}
	b.roots.AddCert(b.root)
	b.intermediates.AddCert(b.issuing)
	if err := b.issue(); err != nil {
		return nil, err
	}
	server, err := sign(leafOf(4, x509.ExtKeyUsageServerAuth), b.issuing, b.caKey.Public(), b.caKey)
	if err != nil {
		return nil, err
	}
	b.serverTLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: b.caKey}}}
	b.deviceSide = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} // as a device does, see package join
	return b, nil
}

func authority(serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("CA ", serial)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func leafOf(serial int64, usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func sign(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (b *bare) request() ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, b.key)
}

func (b *bare) verifyRequest() error {
	csr, err := x509.ParseCertificateRequest(b.csr)
	if err != nil {
		return err
	}
	return csr.CheckSignature()
}

func (b *bare) issue() (err error) {
	b.leaf, err = sign(leafOf(3, x509.ExtKeyUsageClientAuth), b.issuing, b.key.Public(), b.caKey)
	return err
}

// verifyPath of the device's certificate; the root is looked at by itself.
func (b *bare) verifyPath() error {
	if err := b.root.CheckSignatureFrom(b.root); err != nil {
		return err
	}
	_, err := b.leaf.Verify(x509.VerifyOptions{
		Roots: b.roots, Intermediates: b.intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// handshake over a pipe, until each end has heard the other's Finished.
func (b *bare) handshake() error {
	a, z := net.Pipe()
	defer a.Close()
	defer z.Close()
	served := make(chan error, 1)
	go func() {
		conn := tls.Server(z, b.serverTLS)
		_, err := conn.Write([]byte("hello"))
		served <- err
	}()
	conn := tls.Client(a, b.deviceSide)
	got := make([]byte, 5)
	_, err := io.ReadFull(conn, got)
	if err == nil && !bytes.Equal(got, []byte("hello")) {
		err = errors.New("other octets than were sent")
	}
	if err != nil {
		a.Close()
	}
	return errors.Join(err, <-served)
}
