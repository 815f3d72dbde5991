package session

import "errors"

// ErrConfig: a Config or Settings that can't be used. Nothing has changed.
var ErrConfig = errors.New("invalid session configuration")
