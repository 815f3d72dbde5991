package agent

import "errors"

var (
	// ErrLocked: another process has the file.
	ErrLocked = errors.New("the agent's file is in use")
	// ErrForeign: the file is something else.
	ErrForeign = errors.New("not a file of the agent")
	// ErrVersion: the file is of a version that this program doesn't read.
	ErrVersion = errors.New("the agent's file has another version")
	// ErrCorrupt: the file is damaged.
	ErrCorrupt = errors.New("the agent's file is damaged")
	// ErrManager: whoever connected is no manager of this installation.
	ErrManager = errors.New("not a manager of this installation")
	// ErrIdentity: a certificate that can't be this gateway's identity. The
	// former one stays.
	ErrIdentity = errors.New("not a certificate for this gateway")
)
