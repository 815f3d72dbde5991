// Package vaes is AES-GCM (NIST SP 800-38D) for ESP packets on processors with
// AVX-512, VAES and VPCLMULQDQ: four blocks an instruction, encrypted and hashed in
// one pass, in Go's assembler. A key is a flat value that its owner keeps and erases.
//
// It is there on amd64 where the build tag purego isn't, and to be used where
// Supported says so; elsewhere crypto/cipher does the same.
//
// What lives here: the cipher. What doesn't: the layout of ESP packets (package esp).
package vaes
