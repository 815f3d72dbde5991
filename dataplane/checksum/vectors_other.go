//go:build !amd64 || purego

package checksum

const (
	vectors      = false
	vectorsLeast = 0
)

func sumVectors(b []byte, acc uint64) uint64 { return sumWords(b, acc) }
