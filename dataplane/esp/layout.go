package esp

import (
	"crypto/aes"
	"crypto/des"

	"github.com/roamgate/roamgate/dataplane"
)

// Layout says how long the parts of an ESP packet are; it needs no keys. Each
// Transform has the one of its algorithm.
type Layout struct{ ivLen, align, icvLen int }

// LayoutOf an algorithm. Errors: dataplane.ErrAlgorithm, wrapped.
func LayoutOf(alg dataplane.Algorithm) (Layout, error) {
	if _, _, err := KeyLen(alg); err != nil {
		return Layout{}, err
	}
	if alg.Integrity == 0 {
		return aeadLayout, nil
	}
	blockSize := aes.BlockSize
	if alg.Encryption == dataplane.EncryptionTripleDES {
		blockSize = des.BlockSize
	}
	return cbcLayout(blockSize, macs[alg.Integrity]), nil
}

// HeaderLen is that of Transform.
func (l Layout) HeaderLen() int { return fixedLen + l.ivLen }

// SealedLen is that of Transform.
func (l Layout) SealedLen(n int) int { return l.HeaderLen() + paddedLen(n, l.align) + l.icvLen }
