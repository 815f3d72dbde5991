// Package ipsecmb is AES-GCM for batches of ESP packets on Intel's Multi-Buffer
// Crypto for IPsec (Debian: libipsec-mb-dev), one call of C for a batch. It is
// there only where the build tag ipsecmb and cgo are: the gateway is pure Go without
// it, and uses it in package userspace with it.
//
//	go test -tags ipsecmb -bench . ./dataplane/esp/ipsecmb
//
// What lives here: the cipher with its expanded keys, in memory of C that is erased.
// What doesn't: the layout of ESP packets (package esp), whoever gathers batches.
package ipsecmb
