package dhcp

import "errors"

// ErrConfig: a configuration that can't be; it says what is wrong with it.
var ErrConfig = errors.New("DHCP configuration")
