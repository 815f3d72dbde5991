package config

import "errors"

// DatabaseTLS says how a connection to PostgreSQL is kept from others.
type DatabaseTLS string

// Ways. TLSVerify checks the server's certificate and its name; TLSNone sends
// everything in the clear.
const (
	TLSVerify DatabaseTLS = "verify-full"
	TLSNone   DatabaseTLS = "insecure-without-tls"
)

var errUnknownWay = errors.New("unknown way")

// UnmarshalText reads a way's name.
func (t *DatabaseTLS) UnmarshalText(b []byte) error {
	*t = DatabaseTLS(b)
	if *t != TLSVerify && *t != TLSNone {
		return errUnknownWay
	}
	return nil
}

func (DatabaseTLS) expected() string { return "one of verify-full, insecure-without-tls" }
