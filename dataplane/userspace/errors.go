package userspace

import "errors"

// ErrConfig: a Config that no backend can be built from.
var ErrConfig = errors.New("invalid data plane configuration")
