package store

// For tests of versions and of what is stored.
var (
	Migrator         = migrator
	MarshalCommand   = marshalCommand
	UnmarshalCommand = unmarshalCommand
)
