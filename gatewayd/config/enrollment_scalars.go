package config

// DatabaseTLS says how a connection to PostgreSQL is kept from others.
type DatabaseTLS string

// Ways. TLSVerify checks the server's certificate and its name; TLSNone sends
// everything in the clear.
const (
	TLSVerify DatabaseTLS = "verify-full"
	TLSNone   DatabaseTLS = "insecure-without-tls"
)

func (DatabaseTLS) names() []string { return []string{"verify-full", "insecure-without-tls"} }
