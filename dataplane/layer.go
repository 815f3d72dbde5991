package dataplane

// Layer stands before a backend (a filter outside) or behind it (access lists
// inside) and has to know each Child SA that the backend accepts. Package
// layered keeps them in step. Methods are called by one goroutine at a time.
type Layer interface {
	// Admit makes the layer let Child SAs pass, before the backend accepts
	// them, and returns one error for each, nil where it does. An SPI that is
	// known already gets what the new Child says. The Child SAs, keys included,
	// are only read, and not kept.
	Admit(children []*Child) []error
	// Regroup puts the device of a Child SA that was admitted into another
	// group, from the next packet on. A layer without groups returns nil.
	// Errors: ErrGroup.
	Regroup(inbound SPI, group string) error
	// Forget ends what Admit began, after the backend removed the Child SAs.
	// Unknown SPIs are passed over.
	Forget(inbound []SPI)
}
