package gate

import "errors"

// ErrConfig: a Config that can't be used; the text names the value.
var ErrConfig = errors.New("invalid gate configuration")
