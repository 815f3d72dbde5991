package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // of legacy clients
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// maxRecipients of an envelope that are looked through.
const maxRecipients = 8

// Cipher of an envelope's content, all in CBC mode.
type Cipher uint8

// Ciphers.
const (
	AES128 Cipher = iota + 1
	AES192
	AES256
	DES3 // legacy, as DES
	DES
)

// legacy ciphers have blocks of 64 bits, and DES a key that can be tried out:
// they may keep nothing secret that isn't inside TLS.
func (c Cipher) legacy() bool { return c == DES3 || c == DES }

var ciphers = []struct {
	cipher Cipher
	oid    asn1.ObjectIdentifier
	key    int // octets
	block  func(key []byte) (cipher.Block, error)
}{
	{AES128, oidAES128, 16, aes.NewCipher},
	{AES192, oidAES192, 24, aes.NewCipher},
	{AES256, oidAES256, 32, aes.NewCipher},
	{DES3, oidDES3, 24, des.NewTripleDESCipher},
	{DES, oidDES, 8, des.NewCipher},
}

// Scheme is how an envelope is made.
type Scheme struct {
	Cipher Cipher
	// OAEP is the hash of RSAES-OAEP, also in MGF1, or zero for RSAES-PKCS1-v1_5.
	OAEP crypto.Hash
}

// Open opens EnvelopedData (RFC 5652 section 6) for the owner of certificate.
// legacy allows DES and triple DES. All failures after the recipient was found are
// ErrOpen; the content may still be made up, as nothing authenticates it: a
// server that answers differently to what it finds in there tells a stranger
// the content of envelopes that he has seen and changed.
func Open(data []byte, certificate *x509.Certificate, key crypto.Decrypter, legacy bool) ([]byte, Scheme, error) {
	var s Scheme
	content, err := unwrap(data, oidEnveloped)
	if err != nil {
		return nil, s, err
	}
	var enveloped, recipients, info, ciphertext, iv cryptobyte.String
	var version int
	var kind asn1.ObjectIdentifier
	if !content.ReadASN1(&enveloped, tags.SEQUENCE) || !content.Empty() || !enveloped.ReadASN1Integer(&version) ||
		!enveloped.SkipOptionalASN1(implicit0) || !enveloped.ReadASN1(&recipients, tags.SET) ||
		!enveloped.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidData) {
		return nil, s, fmt.Errorf("%w: enveloped data", ErrFormat)
	}
	method, parameters, ok := readAlgorithm(&info)
	if !ok || !readCiphertext(&info, &ciphertext) || !info.Empty() {
		return nil, s, fmt.Errorf("%w: enveloped data", ErrFormat)
	}
	for _, c := range ciphers {
		if c.oid.Equal(method) && (!c.cipher.legacy() || legacy) {
			s.Cipher = c.cipher
		}
	}
	if s.Cipher == 0 {
		return nil, s, fmt.Errorf("%w: cipher %v", ErrAlgorithm, method)
	}
	c := ciphers[s.Cipher-1]
	party, err := PartyOf(certificate)
	if err != nil {
		return nil, s, err
	}
	encrypted, oaep, err := party.findRecipient(recipients)
	if err != nil {
		return nil, s, err
	}
	s.OAEP = oaep
	size := aes.BlockSize
	if s.Cipher.legacy() {
		size = des.BlockSize
	}
	if !parameters.ReadASN1(&iv, tags.OCTET_STRING) || !parameters.Empty() || len(iv) != size ||
		len(ciphertext) == 0 || len(ciphertext)%size != 0 {
		return nil, s, fmt.Errorf("%w: enveloped data", ErrFormat)
	}
	contentKey, err := decryptKey(key, encrypted, s.OAEP, c.key)
	if err != nil {
		return nil, s, ErrOpen
	}
	defer clear(contentKey)
	block, err := c.block(contentKey)
	if err != nil {
		return nil, s, ErrOpen
	}
	plain := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, ciphertext)
	n, ok := unpad(plain, size)
	if !ok {
		clear(plain)
		return nil, s, ErrOpen
	}
	return plain[:n], s, nil
}

// readCiphertext reads [0] IMPLICIT OCTET STRING, which is optional in RFC 5652
// section 6.1, but not here, and may come in pieces.
func readCiphertext(info, out *cryptobyte.String) bool {
	if info.PeekASN1Tag(implicit0) {
		var pieces, piece cryptobyte.String
		if !info.ReadASN1(&pieces, implicit0) {
			return false
		}
		for !pieces.Empty() {
			if !pieces.ReadASN1(&piece, tags.OCTET_STRING) {
				return false
			}
			*out = append(*out, piece...)
		}
		return true
	}
	return info.ReadASN1(out, tags.Tag(0).ContextSpecific())
}

// findRecipient returns the encrypted key of KeyTransRecipientInfo, RFC 5652
// section 6.2.1.
func (p *Party) findRecipient(recipients cryptobyte.String) (encrypted []byte, oaep crypto.Hash, err error) {
	for n := 0; !recipients.Empty(); n++ {
		var element, info, identifier, issuer, serial, key cryptobyte.String
		var tag tags.Tag
		var version int
		if n == maxRecipients || !recipients.ReadAnyASN1Element(&element, &tag) {
			return nil, 0, fmt.Errorf("%w: recipients", ErrFormat)
		}
		if tag != tags.SEQUENCE || !element.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1Integer(&version) ||
			!info.ReadASN1(&identifier, tags.SEQUENCE) || !identifier.ReadASN1Element(&issuer, tags.SEQUENCE) ||
			!identifier.ReadASN1Element(&serial, tags.INTEGER) ||
			!bytes.Equal(issuer, p.issuer) || !bytes.Equal(serial, p.serial) {
			continue
		}
		method, parameters, ok := readAlgorithm(&info)
		if !ok || !info.ReadASN1(&key, tags.OCTET_STRING) || !info.Empty() {
			return nil, 0, fmt.Errorf("%w: recipient", ErrFormat)
		}
		switch {
		case method.Equal(oidRSA):
		case method.Equal(oidOAEP):
			if oaep, err = readOAEP(parameters); err != nil {
				return nil, 0, err
			}
		default:
			return nil, 0, fmt.Errorf("%w: key transport %v", ErrAlgorithm, method)
		}
		return key, oaep, nil
	}
	return nil, 0, ErrRecipient
}

// readOAEP reads RSAES-OAEP-params, RFC 4055 section 4.1: one hash for both
// purposes, no label.
func readOAEP(parameters cryptobyte.String) (crypto.Hash, error) {
	hash, mask := oidSHA1, oidSHA1
	if len(parameters) > 0 {
		var p, explicit, label cryptobyte.String
		var present bool
		if !parameters.ReadASN1(&p, tags.SEQUENCE) || !parameters.Empty() {
			return 0, fmt.Errorf("%w: OAEP", ErrFormat)
		}
		if !p.ReadOptionalASN1(&explicit, &present, tags.Tag(0).Constructed().ContextSpecific()) {
			return 0, fmt.Errorf("%w: OAEP", ErrFormat)
		}
		if present {
			var ok bool
			if hash, _, ok = readAlgorithm(&explicit); !ok {
				return 0, fmt.Errorf("%w: OAEP", ErrFormat)
			}
		}
		if !p.ReadOptionalASN1(&explicit, &present, tags.Tag(1).Constructed().ContextSpecific()) {
			return 0, fmt.Errorf("%w: OAEP", ErrFormat)
		}
		if present {
			generator, rest, ok := readAlgorithm(&explicit)
			if ok {
				mask, _, ok = readAlgorithm(&rest)
			}
			if !ok || !generator.Equal(oidMGF1) {
				return 0, fmt.Errorf("%w: OAEP", ErrFormat)
			}
		}
		if !p.ReadOptionalASN1(&label, &present, tags.Tag(2).Constructed().ContextSpecific()) || !p.Empty() {
			return 0, fmt.Errorf("%w: OAEP", ErrFormat)
		}
		if present {
			source, value, ok := readAlgorithm(&label)
			var octets cryptobyte.String
			if !ok || !source.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 9}) ||
				!value.ReadASN1(&octets, tags.OCTET_STRING) || len(octets) != 0 {
				return 0, fmt.Errorf("%w: OAEP with a label", ErrAlgorithm)
			}
		}
	}
	if !hash.Equal(mask) {
		return 0, fmt.Errorf("%w: OAEP with %v and %v", ErrAlgorithm, hash, mask)
	}
	return digestOf(hash)
}

// decryptKey returns a key of size octets. With PKCS #1 v1.5 a wrong padding
// gives a random key, in the same time (RFC 3218 section 2.3.2).
func decryptKey(key crypto.Decrypter, encrypted []byte, oaep crypto.Hash, size int) ([]byte, error) {
	//nolint:staticcheck // deprecated, and what SCEP's clients speak; with a session key it is no oracle
	var options crypto.DecrypterOpts = &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size}
	if oaep != 0 {
		options = &rsa.OAEPOptions{Hash: oaep}
	}
	k, err := key.Decrypt(rand.Reader, encrypted, options)
	if err != nil {
		return nil, err
	}
	if len(k) != size {
		clear(k)
		return nil, ErrOpen
	}
	return k, nil
}

// unpad returns how much of plain is content, RFC 5652 section 6.3, in a time
// that doesn't depend on the padding. plain is at least a block.
func unpad(plain []byte, block int) (n int, ok bool) {
	last := plain[len(plain)-block:]
	pad := int(last[block-1])
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, block)
	for i := range last {
		inside := subtle.ConstantTimeLessOrEq(block-i, pad)
		same := subtle.ConstantTimeByteEq(last[i], byte(pad))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	return len(plain) - pad, good == 1
}

// Seal makes EnvelopedData for one recipient with an RSA key.
func Seal(content []byte, to Party, s Scheme) ([]byte, error) {
	public, ok := to.Key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: an envelope for a key of type %T", ErrAlgorithm, to.Key)
	}
	if s.Cipher < AES128 || s.Cipher > DES {
		return nil, fmt.Errorf("%w: cipher %d", ErrAlgorithm, s.Cipher)
	}
	c := ciphers[s.Cipher-1]
	key := make([]byte, c.key)
	defer clear(key)
	rand.Read(key)
	block, err := c.block(key)
	if err != nil {
		return nil, err
	}
	var encrypted []byte
	if s.OAEP != 0 {
		encrypted, err = rsa.EncryptOAEP(s.OAEP.New(), rand.Reader, public, key, nil)
	} else {
		encrypted, err = rsa.EncryptPKCS1v15(rand.Reader, public, key) //nolint:staticcheck // as above
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	size := block.BlockSize()
	iv := make([]byte, size)
	rand.Read(iv)
	pad := size - len(content)%size
	sealed := append(bytes.Clone(content), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)

	var b cryptobyte.Builder
	wrap(&b, oidEnveloped, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				to.addIdentifier(b)
				if s.OAEP != 0 {
					addOAEP(b, s.OAEP)
				} else {
					addAlgorithm(b, oidRSA)
				}
				b.AddASN1OctetString(encrypted)
			})
		})
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidData)
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(c.oid)
				b.AddASN1OctetString(iv)
			})
			b.AddASN1(tags.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(sealed) })
		})
	})
	return b.Bytes()
}

func addOAEP(b *cryptobyte.Builder, hash crypto.Hash) {
	oid := oidSHA1
	for _, d := range digests {
		if d.hash == hash {
			oid = d.oid
		}
	}
	digest := func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1NULL()
		})
	}
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidOAEP)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			if hash == crypto.SHA1 {
				return // defaults are left out in DER
			}
			b.AddASN1(tags.Tag(0).Constructed().ContextSpecific(), digest)
			b.AddASN1(tags.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidMGF1)
					digest(b)
				})
			})
		})
	})
}
