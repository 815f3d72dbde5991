package lease

import "errors"

// Errors of a request. A request that gets one has changed nothing: a session
// that was current still is.
var (
	// ErrExhausted: every address of the pools belongs to a live session.
	ErrExhausted = errors.New("no free virtual IP")
	// ErrNoPool: there is no pool of the family that was asked for.
	ErrNoPool = errors.New("no address pool of this family")
	// ErrOutside: an assigned address that lies in no pool, or is excluded.
	ErrOutside = errors.New("assigned address lies in no pool")
	// ErrInvalid: no or too long a device name, no session, unknown family.
	ErrInvalid = errors.New("invalid lease request")
	// ErrNotCurrent: an additional address for a session that isn't current.
	ErrNotCurrent = errors.New("session is not the device's current one")
	// ErrBusy: the queue of requests is full.
	ErrBusy = errors.New("lease registry is busy")
	// ErrStore: the assignment could not be written, so it wasn't made.
	ErrStore = errors.New("lease file cannot be written")
	// ErrClosed: the registry was closed.
	ErrClosed = errors.New("lease registry is closed")
)

// Errors of Release.
var (
	// ErrInUse: the device has a live session.
	ErrInUse = errors.New("lease is in use")
	// ErrUnknownDevice: the device has no lease.
	ErrUnknownDevice = errors.New("device has no lease")
)

// Errors of Open and Reconfigure. They leave file and registry as they were.
var (
	// ErrConfig: what is wrong with a Config.
	ErrConfig = errors.New("invalid address pools")
	// ErrLocked: another registry has the file open.
	ErrLocked = errors.New("lease file is in use by another process")
	// ErrForeign: the file is not a lease file.
	ErrForeign = errors.New("not a lease file")
	// ErrVersion: the file was written by a version that this one can't read.
	ErrVersion = errors.New("unknown version of the lease file")
	// ErrCorrupt: the file contradicts itself.
	ErrCorrupt = errors.New("lease file is damaged")
)
