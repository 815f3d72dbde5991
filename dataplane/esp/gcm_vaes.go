//go:build amd64 && !purego

package esp

import "github.com/roamgate/roamgate/dataplane/esp/vaes"

func vectorsSupported() bool { return vaes.Supported() }

// vectorGCM is AES-GCM with a 16-octet ICV (RFC 4106) by package vaes. It has no
// pointers, so that the collector doesn't look into it.
type vectorGCM struct {
	Layout
	frame Frame
	key   vaes.Key
}

var _ Transform = (*vectorGCM)(nil)

// newVectorGCM takes the encryption key with the salt behind it.
func newVectorGCM(key []byte, esn bool) (Transform, error) {
	g := &vectorGCM{Layout: aeadLayout, frame: NewFrame(key, esn)}
	if err := g.key.Expand(FrameKey(key)); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *vectorGCM) Seal(packet []byte, n int, nextHeader byte, spi uint32, seq uint64) []byte {
	return g.seal(packet, n, nextHeader, spi, seq, seq)
}

// seal takes the IV apart from the sequence number for the sake of test vectors.
func (g *vectorGCM) seal(packet []byte, n int, nextHeader byte, spi uint32, seq, iv uint64) []byte {
	var p Part
	packet = g.frame.seal(&p, packet, n, nextHeader, spi, seq, iv)
	g.key.Seal(packet[aeadHeaderLen:], &p.Nonce, p.AAD[:p.AADLen])
	return packet
}

func (g *vectorGCM) Open(packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	p, err := g.frame.Open(packet, seq)
	if err != nil {
		return nil, 0, err
	}
	if !g.key.Open(packet[aeadHeaderLen:], &p.Nonce, p.AAD[:p.AADLen]) {
		return nil, 0, ErrIntegrity
	}
	return FrameInner(packet)
}

func (g *vectorGCM) Erase() { *g = vectorGCM{} }
