package encap

import "errors"

// ErrAddress: an address that a socket can't be bound to, or a remote address
// of another family than the socket's.
var ErrAddress = errors.New("unusable address")
