package compare

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/process"
)

// besideBare runs f and returns what the public key cryptography of a handshake that
// no responder can do without costs meanwhile, on the gateway's processor if it has
// one: a processor's speed depends on what its neighbours do.
func (l *lab) besideBare(ctx context.Context, f func() error) (time.Duration, error) {
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	type measured struct {
		cost time.Duration
		err  error
	}
	bare := make(chan measured, 1)
	go func() {
		cost, err := l.bareUntil(loaded)
		bare <- measured{cost, err}
	}()
	err := f()
	stop()
	b := <-bare
	return b.cost, errors.Join(err, b.err)
}

const (
	// A burst of handshakes is measured every pause: some per cent of one
	// processor, which is the gateway's loss and not in its processor time.
	bareBurst = 10
	barePause = 100 * time.Millisecond
)

// bareUntil is the median of bursts, at least one, until ctx ends.
func (l *lab) bareUntil(ctx context.Context) (time.Duration, error) {
	b, err := newBare()
	if err != nil {
		return 0, err
	}
	// The clock is the thread's, and so is the processor: nobody else gets it.
	runtime.LockOSThread()
	if l.apart {
		if err := process.PinThread(l.gateway); err != nil {
			return 0, err
		}
	}
	var costs []time.Duration
	for {
		before, err := threadTime()
		if err != nil {
			return 0, err
		}
		for range bareBurst {
			if err := b.handshake(); err != nil {
				return 0, err
			}
		}
		after, err := threadTime()
		if err != nil {
			return 0, err
		}
		costs = append(costs, (after-before)/bareBurst)
		select {
		case <-ctx.Done():
			slices.Sort(costs)
			return costs[len(costs)/2], nil
		case <-time.After(barePause):
		}
	}
}

func threadTime() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// bare has what the cryptography of a responder works on in the laboratory:
// Curve25519, ECDSA on P-256, one CA between device and trust.
type bare struct {
	peer      *ecdh.PublicKey
	key       *ecdsa.PrivateKey
	digest    [sha256.Size]byte
	signature []byte
}

func newBare() (*bare, error) {
	peer, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	b := &bare{peer: peer.PublicKey(), digest: sha256.Sum256([]byte("octets"))}
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	b.signature, err = ecdsa.SignASN1(rand.Reader, b.key, b.digest[:])
	return b, err
}

// handshake is an ephemeral key, an agreement, the gateway's signature, and the
// verification of the device's AUTH and of its certificate.
func (b *bare) handshake() error {
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if _, err := own.ECDH(b.peer); err != nil {
		return err
	}
	if _, err := ecdsa.SignASN1(rand.Reader, b.key, b.digest[:]); err != nil {
		return err
	}
	for range 2 {
		if !ecdsa.VerifyASN1(&b.key.PublicKey, b.digest[:], b.signature) {
			return errors.New("a sound signature doesn't verify")
		}
	}
	return nil
}
