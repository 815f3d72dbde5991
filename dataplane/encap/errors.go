package encap

import "errors"

// ErrAddress: an address that a socket can't be bound to, or a remote address
// of another family than the socket's.
var ErrAddress = errors.New("unusable address")

// ErrForeign: a local address that no socket has.
var ErrForeign = errors.New("not an address of ours")
