package admit

import "errors"

// Errors of New and of the parsers. None of them leaves anything behind.
var (
	// ErrConfig: a Config that can't be used; the text names the part.
	ErrConfig = errors.New("invalid admission policy")
	// ErrPEM: a file does not hold what it should.
	ErrPEM = errors.New("invalid PEM")
	// ErrOCSP: not an OCSP response that can be used, see CheckOCSPResponse.
	ErrOCSP = errors.New("invalid OCSP response")
	// ErrDeviceName: not usable as the name of a device, see DeviceName.
	ErrDeviceName = errors.New("invalid device name")
)
