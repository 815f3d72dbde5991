package push

import "errors"

var (
	// ErrGateway: who answers isn't the gateway that was meant, or is no
	// gateway of this installation.
	ErrGateway = errors.New("not this gateway")
	// ErrAnswer: an answer that no gateway gives that follows the contract.
	ErrAnswer = errors.New("not an answer of a gateway")
	// ErrAhead: the gateway has a newer version than this manager. Another
	// manager works, or a database was restored without a new epoch.
	ErrAhead = errors.New("the gateway has a newer version")
	// ErrDiverged: the same version, and another content. The next commit
	// replaces it.
	ErrDiverged = errors.New("the gateway has another content of this version")
	// ErrSection: the gateway doesn't know a section that was committed. Its
	// software is older than the manager's.
	ErrSection = errors.New("the gateway doesn't know this section")
	// ErrExists: a gateway of that name is there already.
	ErrExists = errors.New("a gateway of this name is there already")
	// ErrUnknown: there is no gateway of that name.
	ErrUnknown = errors.New("no such gateway")
	// ErrAway: the gateway isn't connected.
	ErrAway = errors.New("the gateway isn't connected")
	// ErrNoSession: the gateway doesn't have that session.
	ErrNoSession = errors.New("the gateway has no such session")
)
