package ikecrypto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/roamgate/roamgate/control/ikewire"
)

// SignedOctets is what an AUTH payload signs (RFC 7296 section 2.15): the
// signer's first message as it was sent, the peer's nonce, and prf(SK_p,
// RestOfIDPayload) with SK_pi for the initiator or SK_pr for the responder. It
// panics if the function isn't here.
func SignedOctets(prf uint16, firstMessage, peerNonce, skP []byte, id *ikewire.ID) []byte {
	mac := PRF(prf).Sum(skP, id.AppendBody(nil))
	return slices.Concat(firstMessage, peerNonce, mac)
}

// Sign makes the AUTH data of octets. peerHashes are those of the peer's
// SIGNATURE_HASH_ALGORITHMS, nil if it sent none. The method is 14 (RFC 7427)
// where the peer announced a hash that the key can sign with: SHA-2, or for
// Ed25519 the identity (RFC 8420). Otherwise an ECDSA key signs by method 9, 10
// or 11 (RFC 4754), and the others can't. Legacy.Sign knows method 1 besides.
//
// RSA signs by RSASSA-PKCS1-v1_5, which every client that knows method 14
// takes, while not all of them take RSASSA-PSS: that is for a PSS signer.
//
// rand goes to the signer, which may have its own; with nil, keys of the
// standard library sign deterministically (RFC 6979), but for RSASSA-PSS, which
// needs it. Errors: ErrNeedsSHA1, ErrNoCommonHash, ErrAuthMethod, ErrKeySize,
// those of the signer.
func Sign(signer crypto.Signer, peerHashes []uint16, octets []byte, rand io.Reader) (method ikewire.AuthMethod, data []byte, err error) {
	return sign(Legacy{}, signer, peerHashes, octets, rand)
}

// PSS is a signer with an RSA key that signs by RSASSA-PSS, with a salt as long
// as the hash.
type PSS struct{ crypto.Signer }

func sign(allow Legacy, signer crypto.Signer, peerHashes []uint16, octets []byte, rand io.Reader) (ikewire.AuthMethod, []byte, error) {
	switch pub := signer.Public().(type) {
	case *ecdsa.PublicKey:
		return signECDSA(signer, pub, peerHashes, octets, rand)
	case *rsa.PublicKey:
		return signRSA(allow, signer, pub, peerHashes, octets, rand)
	case ed25519.PublicKey:
		return signEd25519(signer, peerHashes, octets, rand)
	}
	return 0, nil, fmt.Errorf("%w: key of type %T", ErrAuthMethod, signer.Public())
}

func signECDSA(signer crypto.Signer, pub *ecdsa.PublicKey, peerHashes []uint16, octets []byte, rand io.Reader) (ikewire.AuthMethod, []byte, error) {
	method, h, err := curveMethod(pub)
	if err != nil {
		return 0, nil, err
	}
	if h, ok := chooseHash(peerHashes, h, crypto.SHA512, crypto.SHA384, crypto.SHA256); ok {
		return signature(signer, ecdsaIdentifiers[h], digest(h, octets), h, rand)
	}
	der, err := signer.Sign(rand, digest(h, octets), h)
	if err != nil {
		return 0, nil, fmt.Errorf("ikecrypto: sign: %w", err)
	}
	sig, err := rawECDSA(der, (pub.Curve.Params().BitSize+7)/8)
	return method, sig, err
}

func signRSA(allow Legacy, signer crypto.Signer, pub *rsa.PublicKey, peerHashes []uint16, octets []byte, rand io.Reader) (ikewire.AuthMethod, []byte, error) {
	if err := checkRSA(pub); err != nil {
		return 0, nil, err
	}
	h, ok := chooseHash(peerHashes, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	pss, isPSS := signer.(PSS)
	switch {
	case ok && isPSS:
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		return signature(pss.Signer, pssIdentifiers[h], digest(h, octets), opts, rand)
	case ok:
		return signature(signer, rsaIdentifiers[h], digest(h, octets), h, rand)
	case allow.SHA1Signatures && !isPSS:
		sig, err := signer.Sign(rand, digest(crypto.SHA1, octets), crypto.SHA1)
		if err != nil {
			return 0, nil, fmt.Errorf("ikecrypto: sign: %w", err)
		}
		return ikewire.AuthRSA, sig, nil
	case len(peerHashes) == 0:
		return 0, nil, ErrNeedsSHA1
	}
	return 0, nil, fmt.Errorf("%w: peer announced %v", ErrNoCommonHash, peerHashes)
}

// signEd25519 signs the octets themselves (RFC 8420 section 2).
func signEd25519(signer crypto.Signer, peerHashes []uint16, octets []byte, rand io.Reader) (ikewire.AuthMethod, []byte, error) {
	if !slices.Contains(peerHashes, ikewire.HashIdentity) {
		return 0, nil, fmt.Errorf("%w: peer announced %v", ErrNoCommonHash, peerHashes)
	}
	return signature(signer, ed25519Identifier, octets, crypto.Hash(0), rand)
}

// signature is the AUTH data of method 14: the length of the
// AlgorithmIdentifier in one octet, itself, the signature (RFC 7427 section 3).
func signature(signer crypto.Signer, identifier, digest []byte, opts crypto.SignerOpts, rand io.Reader) (ikewire.AuthMethod, []byte, error) {
	sig, err := signer.Sign(rand, digest, opts)
	if err != nil {
		return 0, nil, fmt.Errorf("ikecrypto: sign: %w", err)
	}
	return ikewire.AuthSignature, signatureData(identifier, sig), nil
}

func signatureData(identifier, sig []byte) []byte {
	return slices.Concat([]byte{byte(len(identifier))}, identifier, sig)
}

// hashIDs are the SHA-2 hashes of SIGNATURE_HASH_ALGORITHMS.
var hashIDs = map[crypto.Hash]uint16{
	crypto.SHA256: ikewire.HashSHA256,
	crypto.SHA384: ikewire.HashSHA384,
	crypto.SHA512: ikewire.HashSHA512,
}

// chooseHash is the first of ours that the peer announced.
func chooseHash(peerHashes []uint16, ours ...crypto.Hash) (crypto.Hash, bool) {
	for _, h := range ours {
		if slices.Contains(peerHashes, hashIDs[h]) {
			return h, true
		}
	}
	return 0, false
}

func digest(h crypto.Hash, octets []byte) []byte {
	if h == crypto.SHA256 {
		d := sha256.Sum256(octets)
		return d[:]
	}
	d := h.New()
	d.Write(octets)
	return d.Sum(nil)
}

// curveMethod is the method of RFC 4754 that belongs to the curve of a key,
// and its hash.
func curveMethod(pub *ecdsa.PublicKey) (ikewire.AuthMethod, crypto.Hash, error) {
	switch bits := pub.Curve.Params().BitSize; bits {
	case 256:
		return ikewire.AuthECDSA256, crypto.SHA256, nil
	case 384:
		return ikewire.AuthECDSA384, crypto.SHA384, nil
	case 521:
		return ikewire.AuthECDSA521, crypto.SHA512, nil
	default:
		return 0, 0, fmt.Errorf("%w: curve of %d bits", ErrKeySize, bits)
	}
}

// Bounds on RSA keys in bits: RFC 8247 section 4.1 asks for 2048; more than
// 8192 costs the verifier too much.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

func checkRSA(pub *rsa.PublicKey) error {
	if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
		return fmt.Errorf("%w: RSA of %d bits", ErrKeySize, n)
	}
	return nil
}

// rawECDSA turns an Ecdsa-Sig-Value in DER into r | s of size octets each (RFC
// 4754 section 7).
func rawECDSA(der []byte, size int) ([]byte, error) {
	var seq cryptobyte.String
	var r, s []byte
	in := cryptobyte.String(der)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&s) || !seq.Empty() ||
		len(r) > size || len(s) > size {
		return nil, fmt.Errorf("ikecrypto: sign: signer gave no ECDSA signature")
	}
	out := make([]byte, 2*size)
	copy(out[size-len(r):size], r)
	copy(out[2*size-len(s):], s)
	return out, nil
}

// derECDSA is the reverse of rawECDSA.
func derECDSA(raw []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addUnsigned(b, raw[:len(raw)/2])
		addUnsigned(b, raw[len(raw)/2:])
	})
	return b.Bytes()
}

// addUnsigned adds a big-endian number as an INTEGER in its shortest form.
func addUnsigned(b *cryptobyte.Builder, n []byte) {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
		if n[0]&0x80 != 0 {
			b.AddUint8(0)
		}
		b.AddBytes(n)
	})
}
