//go:build !ipsecmb || !cgo

package userspace

// Batches says whether the packets of a round are opened and sealed together: with
// the build tag ipsecmb (batches.go), on processors for which that was made.
func Batches() bool { return false }

// batcher opens and seals together where there is such a thing. Here each packet is
// opened and sealed when it has its turn.
type batcher struct{}

type batchKey struct{}

func (batchKey) erase() {}

func newBatcher(bool) batcher { return batcher{} }

func (*loop) openAhead(int, int) {}

func (l *loop) open(s *sa, packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	return l.opener(s, l.now).Open(packet, seq)
}

func (l *loop) sealInto(s *sa, buffer []byte, n int, nextHeader byte, seq uint64) (length int) {
	return len(l.sealer(s, l.now).Seal(buffer, n, nextHeader, s.outboundSPI, seq))
}

func (*loop) sealAll(*local) {}
