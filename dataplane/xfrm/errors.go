package xfrm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

var (
	// ErrConfig: a configuration that can't work.
	ErrConfig = errors.New("invalid configuration of the XFRM backend")
	// ErrKernel: this kernel lacks something that the backend needs.
	ErrKernel = errors.New("kernel can't do it")
	// errLostWord: the kernel didn't tell the last state of an SA that it removed.
	errLostWord = errors.New("last state of an SA is unknown")
)

// explain makes an error of the contract of one of the kernel.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s: an SA with that SPI and address exists", dataplane.ErrInvalid, what)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %s: %w", dataplane.ErrAlgorithm, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
