// Package command is what commands of gatewayd have in common with those of
// its parts that are packages of their own: the error of a command line that
// makes no sense, secrets that are never a flag, and how results are printed.
//
// What doesn't live here: any command.
package command
