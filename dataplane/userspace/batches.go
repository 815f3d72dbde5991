//go:build ipsecmb && cgo

package userspace

import (
	"encoding/binary"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/esp/ipsecmb"
)

/* Packets of AES-GCM together
 *
 * Outside to inside: before a batch of datagrams has its turn, one after the other,
 * those of installed SAs whose sequence numbers are fresh are opened in place by one
 * call (openAhead). All checks come again when a packet has its turn: of two with one
 * number the first advances the window and the second is a replay.
 *
 * Inside to outside: a packet is laid out where it will be sent from, and its cipher
 * is noted (sealInto); one call encrypts all of a sender before it sends (sealAll).
 *
 * Keys lie in memory of the library and are erased when no job can have them any
 * more: between rounds (cipherCache.bury).
 */

// Batches says whether the packets of a round are opened and sealed together: on
// processors for which that was made.
func Batches() bool { return together() }

var together = ipsecmb.Fast // another one in tests

const (
	// aheadMost datagrams are opened by one call, fewer than aheadLeast each by
	// itself: a call of C has its price.
	aheadMost  = 64
	aheadLeast = 2
)

// batcher is a loop's jobs.
type batcher struct {
	on   bool
	jobs []ipsecmb.Job
	// ahead of the datagrams from first on; turn is the one that is handled, -1
	// where datagrams come another way.
	first, turn int
	ahead       [aheadMost]ahead
	// seals is what has to be encrypted before a sender may send, by local address.
	seals [][]ipsecmb.Job
}

// ahead is what became of a datagram: job is 1 + its number, 0 if it is still
// sealed.
type ahead struct {
	job int
	seq uint64
}

// batchKey is one direction of a child. The zero value is none.
type batchKey struct {
	key   *ipsecmb.Key
	frame esp.Frame
}

func (k batchKey) erase() {
	if k.key != nil {
		k.key.Erase()
	}
}

func newBatcher(singly bool) batcher {
	return batcher{on: !singly && Batches(), turn: -1}
}

// makeBatchKey returns none where the algorithm is another one, or C has no memory.
func makeBatchKey(alg dataplane.Algorithm, keys dataplane.Keys, esn bool) (k batchKey) {
	if alg.Encryption != dataplane.EncryptionAESGCM16 {
		return k
	}
	key, err := ipsecmb.NewKey(esp.FrameKey(keys.Encryption))
	if err != nil {
		return k
	}
	return batchKey{key: key, frame: esp.NewFrame(keys.Encryption, esn)}
}

func (l *loop) batchOpener(s *sa) *batchKey {
	e := l.cipher(s, l.now)
	if e.openBatch.key == nil {
		alg := l.policies.at(s.policy).algorithm
		in, _ := l.keys.get(s.keys, alg)
		e.openBatch = makeBatchKey(alg, in, s.esn)
	}
	return &e.openBatch
}

func (l *loop) batchSealer(s *sa) *batchKey {
	e := l.cipher(s, l.now)
	if e.sealBatch.key == nil {
		alg := l.policies.at(s.policy).algorithm
		_, out := l.keys.get(s.keys, alg)
		e.sealBatch = makeBatchKey(alg, out, s.esn)
	}
	return &e.sealBatch
}

// job of a part of a packet that begins at an offset of the memory.
func job(k *ipsecmb.Key, at int, p esp.Part) (j ipsecmb.Job) {
	j.Use(k)
	j.Offset, j.Length = uint32(at+p.Offset), uint32(p.Length)
	j.Nonce, j.AAD, j.AADLen = p.Nonce, p.AAD, uint32(p.AADLen)
	return j
}

// openAhead opens what can be of the datagrams from number i on, at most aheadMost.
func (l *loop) openAhead(i, n int) {
	b := &l.batcher
	b.turn = i
	if !b.on || i < n && i%aheadMost != 0 {
		return
	}
	b.first, b.jobs = i, b.jobs[:0]
	if i >= n {
		b.turn = -1
		return
	}
	n = min(n, i+aheadMost)
	for k := i; k < n; k++ {
		if k%touchAhead == 0 {
			l.touch(k, min(k+touchAhead, n))
		}
		b.ahead[k-i] = l.aheadOf(k)
	}
	if len(b.jobs) < aheadLeast || ipsecmb.Open(l.receiver.Memory(), b.jobs) != nil {
		clear(b.ahead[:])
	}
}

// aheadOf makes a job of a datagram that would be opened if it had its turn now.
func (l *loop) aheadOf(k int) (a ahead) {
	d := l.receiver.Datagram(k)
	kind, _ := encap.Classify(d.Payload)
	if kind != encap.KindESP || d.Truncated || len(d.Payload) < espFixedLen {
		return a
	}
	spi, low := dataplane.SPI(binary.BigEndian.Uint32(d.Payload)), binary.BigEndian.Uint32(d.Payload[4:])
	if loopOf(spi) != l.sadb.loop {
		return a
	}
	s := l.installed(spi)
	if s == nil {
		return a
	}
	seq, verdict := s.window.Check(low, s.esn)
	if verdict != esp.Fresh {
		return a
	}
	key := l.batchOpener(s)
	if key.key == nil {
		return a
	}
	p, err := key.frame.Open(d.Payload, seq)
	if err != nil {
		return a
	}
	l.batcher.jobs = append(l.batcher.jobs, job(key.key, l.receiver.Offset(k), p))
	return ahead{job: len(l.batcher.jobs), seq: seq}
}

// open is Transform.Open for the datagram that has its turn, or another packet.
func (l *loop) open(s *sa, packet []byte, seq uint64) (inner []byte, nextHeader byte, err error) {
	b := &l.batcher
	if b.turn < 0 || !b.on {
		return l.opener(s, l.now).Open(packet, seq)
	}
	a := &b.ahead[b.turn-b.first]
	switch {
	case a.job == 0:
		return l.opener(s, l.now).Open(packet, seq)
	case a.seq != seq || !b.jobs[a.job-1].Good():
		return nil, 0, esp.ErrIntegrity
	}
	return esp.FrameInner(packet)
}

// sealInto is Transform.Seal; what is encrypted at once is encrypted by sealAll.
func (l *loop) sealInto(s *sa, buffer []byte, n int, nextHeader byte, seq uint64) (length int) {
	if l.batcher.on {
		if key := l.batchSealer(s); key.key != nil {
			sealed, p := key.frame.Seal(buffer, n, nextHeader, s.outboundSPI, seq)
			l.batcher.later(s.at, job(key.key, l.locals[s.at].sender.Offset(), p))
			return len(sealed)
		}
	}
	return len(l.sealer(s, l.now).Seal(buffer, n, nextHeader, s.outboundSPI, seq))
}

// sealAll encrypts what a sender is about to send.
func (l *loop) sealAll(at *local) {
	if int(at.number) >= len(l.batcher.seals) {
		return
	}
	jobs := &l.batcher.seals[at.number]
	if err := ipsecmb.Seal(at.sender.Memory(), *jobs); err != nil {
		panic("userspace: " + err.Error()) // plaintext must not be sent
	}
	*jobs = (*jobs)[:0]
}

// later is done by sealAll of that local address.
func (b *batcher) later(at uint8, j ipsecmb.Job) {
	for len(b.seals) <= int(at) {
		b.seals = append(b.seals, nil)
	}
	b.seals[at] = append(b.seals[at], j)
}
