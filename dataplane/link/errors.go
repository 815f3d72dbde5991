package link

import "errors"

var (
	// ErrNoInterface: there is no interface of that name.
	ErrNoInterface = errors.New("no such interface")
	// ErrSameSubnet: external and internal interface share a subnet.
	ErrSameSubnet = errors.New("external and internal interface must be on separate subnets")
	// ErrLeftover: an earlier run left a journal; call Recover first.
	ErrLeftover = errors.New("an earlier run was not taken back")
	// ErrInUse: another process that lives owns the journal.
	ErrInUse = errors.New("in use by another process")
	// ErrJournal: the journal can't be understood. Nothing was changed.
	ErrJournal = errors.New("journal is damaged")
)
