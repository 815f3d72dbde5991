package store

// For tests of versions and of what is stored.
var (
	Tables           = tables
	MarshalCommand   = marshalCommand
	UnmarshalCommand = unmarshalCommand
)
