package load

import "errors"

// Search finds the highest rate that something stands. It comes from below: what
// queues without a bound would still work off a flood when the next trial begins.
// A rate is too much if it fails twice: the machine may have stalled.
type Search struct {
	// From is the first rate that is tried. Known: it is about the result, as of
	// an earlier search, so that small steps lead there.
	From  float64
	Known bool
	// Tolerance is how near the result is to a rate that was too much, as a share.
	Tolerance float64
}

// Verdict on a rate.
type Verdict int

const (
	// Stands: more can be tried. Fails: it was too much. Behind: it stood, and
	// whoever offers can't offer more.
	Stands Verdict = iota
	Fails
	Behind
)

// ErrNothingStands is returned where every rate fails.
var ErrNothingStands = errors.New("no rate stands")

// maxTrials of one search.
const maxTrials = 40

// Run tries rates until the highest that stands is known, or an error comes from
// try or ErrNothingStands.
func (s *Search) Run(try func(rate float64) (Verdict, error)) error {
	low, high := 0.0, 0.0 // 0: not known yet
	up, down := 2.0, 0.5
	if s.Known {
		up, down = 1.08, 0.92
	}
	rate := s.From
	for range maxTrials {
		verdict, err := try(rate)
		if err == nil && verdict == Fails {
			verdict, err = try(rate)
		}
		switch {
		case err != nil:
			return err
		case verdict == Behind:
			return nil
		case verdict == Stands:
			low = rate
		default:
			high = rate
		}
		switch {
		case high == 0:
			rate *= up
			up = min(2, up*up)
		case low == 0:
			rate *= down
			down = max(0.25, down*down)
		case high-low <= s.Tolerance*high:
			return nil
		default:
			rate = (low + high) / 2
		}
	}
	if low == 0 {
		return ErrNothingStands
	}
	return nil
}
