package admit

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// ParseCertificates reads one or more certificates from PEM. Text around the
// blocks is skipped; a block of any other type, a private key above all, is an
// ErrPEM.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	err := eachBlock(data, "CERTIFICATE", func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		certificates = append(certificates, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return certificates, nil
}

// ParseRevocationLists reads one or more revocation lists from PEM, or one in
// DER.
func ParseRevocationLists(data []byte) ([]*x509.RevocationList, error) {
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		list, err := x509.ParseRevocationList(data)
		if err != nil {
			return nil, fmt.Errorf("%w: neither PEM nor a revocation list in DER: %w", ErrPEM, err)
		}
		return []*x509.RevocationList{list}, nil
	}
	var lists []*x509.RevocationList
	err := eachBlock(data, "X509 CRL", func(der []byte) error {
		list, err := x509.ParseRevocationList(der)
		lists = append(lists, list)
		return err
	})
	if err != nil {
		return nil, err
	}
	return lists, nil
}

// eachBlock wants at least one block, all of them of one type.
func eachBlock(data []byte, blockType string, parse func(der []byte) error) error {
	begun, blocks := bytes.Count(data, []byte("-----BEGIN ")), 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		blocks++
		if block.Type != blockType {
			return fmt.Errorf("%w: block %d is %q, want %q", ErrPEM, blocks, block.Type, blockType)
		}
		if err := parse(block.Bytes); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrPEM, blocks, err)
		}
		data = rest
	}
	if blocks == 0 {
		return fmt.Errorf("%w: no %q block", ErrPEM, blockType)
	}
	// pem.Decode skips a garbled block and says nothing.
	if begun != blocks {
		return fmt.Errorf("%w: %d blocks begin, but %d can be read", ErrPEM, begun, blocks)
	}
	return nil
}
