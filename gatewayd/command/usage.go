package command

import "fmt"

// UsageError is a command line that makes no sense; the process should exit
// with ExitCode.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ExitCode is 2; for any other error it is 1.
func (e *UsageError) ExitCode() int { return 2 }

// Usagef makes a *UsageError as fmt.Errorf does.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }
