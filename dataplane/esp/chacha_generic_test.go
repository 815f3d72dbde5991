//go:build !amd64 || !gc || purego

package esp

// chachaAllocates, each time something is sealed or opened: where x/crypto has
// ChaCha20-Poly1305 in Go only, a cipher of one message is made on the heap.
const chachaAllocates = 1
