// Package pki is the command tree `gatewayd pki`: a thin layer over
// enrollment/ca that reads secrets, names files and prints results. Setup is
// the same for `gatewayd init`, without a command line.
//
// The CA's own files are described in package ca. This package adds, below
// the configuration directory or where --out says:
//
//	gateway.pem   the gateway's certificate, then the issuing CA's
//	gateway.key   its private key, PKCS#8 in PEM, mode 0600
//	NAME.pem      a device's certificate, then the issuing CA's
//	NAME.key      its private key, PKCS#8 in PEM, mode 0600
//	NAME.ca.pem   issuing CA and root, for the device to trust
//	NAME.p12      in place of all three: key, certificate and CAs, mode 0600
//	NAME.*        with --profile: what package profile makes, and
//	NAME.password the password of the PKCS#12 container in it, mode 0600
//
// Keys are never on the command line: they come from a file, the environment
// or the terminal. Nothing is overwritten without --force.
//
// What doesn't live here: templates, signatures, the journal, and what a client
// imports.
package pki
