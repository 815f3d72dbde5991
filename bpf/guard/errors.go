package guard

import "errors"

var (
	// ErrConfig: a value of Config or Settings that can't be used; the text names
	// it.
	ErrConfig = errors.New("invalid guard configuration")
	// ErrAttach: the program isn't on the interface. It is as it was before.
	ErrAttach = errors.New("XDP can't be attached")
	// ErrFull: there is no room for another SPI. Those before it are in place.
	ErrFull = errors.New("table of SPIs is full")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("guard is closed")
)
