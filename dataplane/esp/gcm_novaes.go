//go:build !amd64 || purego

package esp

func vectorsSupported() bool { return false }

// newVectorGCM isn't called here.
func newVectorGCM(key []byte, esn bool) (Transform, error) {
	return newAEAD(newGCMCipher, key, esn)
}
