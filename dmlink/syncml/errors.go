package syncml

import "errors"

var (
	// ErrMalformed: not a document of its syntax, or not a message.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge: a limit on size, depth, elements or commands was passed.
	ErrTooLarge = errors.New("too large")
	// ErrForbidden: well-formed, but of a kind that is refused: document types,
	// entities, processing instructions, character sets other than UTF-8.
	ErrForbidden = errors.New("forbidden")
	// ErrNotText: octets that XML can't carry; such data has to be base64.
	ErrNotText = errors.New("not text")
)
