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
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Cryptography is how much of the gateway's processor time for a handshake is
// public key cryptography that no responder can do without, in per cent: what is
// missing to 100 is everything else. Both are measured while the load is on,
// because a processor's speed depends on what its neighbours do. A gateway that
// remembers what it has verified can come to more than its work was.
func Cryptography(count int) Measurement {
	return Measurement{Name: "cryptography in the gateway's processor time a handshake", Unit: "%", Handshakes: true, run: func(ctx context.Context, l *lab, pid int) (float64, error) {
		loaded, stop := context.WithCancel(ctx)
		defer stop()
		type measured struct {
			cost time.Duration
			err  error
		}
		bare := make(chan measured, 1)
		go func() {
			cost, err := bareUntil(loaded)
			bare <- measured{cost, err}
		}()
		whole, err := l.processorTimeEach(ctx, pid, count)
		stop()
		b := <-bare
		if err = errors.Join(err, b.err); err != nil {
			return 0, err
		}
		return 100 * float64(b.cost) / float64(whole), nil
	}}
}

// processorTimeEach is what the gateway takes for each of count handshakes.
func (l *lab) processorTimeEach(ctx context.Context, pid, count int) (time.Duration, error) {
	before, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	r, err := l.handshakes(ctx, "--count", strconv.Itoa(count), "--duration", "0s")
	if err != nil {
		return 0, err
	}
	after, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	done, err := r.figure("handshakes")
	switch {
	case err != nil:
		return 0, err
	case done == 0:
		return 0, errors.New("no handshake")
	case after <= before:
		return 0, errors.New("too few handshakes for a clock of 10 ms")
	}
	return time.Duration(float64(after-before) / done), nil
}

const (
	// A burst of handshakes is measured every pause: some per cent of one
	// processor, which is the gateway's loss and not in its processor time.
	bareBurst = 10
	barePause = 100 * time.Millisecond
)

// bareUntil is the median of bursts, at least one, until ctx ends.
func bareUntil(ctx context.Context) (time.Duration, error) {
	b, err := newBare()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // the clock is the thread's
	defer runtime.UnlockOSThread()
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
