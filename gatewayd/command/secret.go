package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Secret is where one comes from. It is never a flag itself: other users of the
// host can read command lines.
type Secret struct {
	// Name begins the names of its flags; What it is, for people.
	Name, What string

	file, env string
}

// Add flags for a file and for an environment variable.
func (s *Secret) Add(flags *pflag.FlagSet) {
	flags.StringVar(&s.file, s.Name+"-file", "", "file with the "+s.What+" in its first line; - is standard input")
	flags.StringVar(&s.env, s.Name+"-env", "", "environment variable with the "+s.What)
}

// Given says whether a flag tells where it is.
func (s *Secret) Given() bool { return s.file != "" || s.env != "" }

// Asking on the terminal, for a secret that no flag tells of.
type Asking int

const (
	// Hidden shows nothing of what is typed.
	Hidden Asking = iota
	// Shown is for what is copied from paper, where that helps more than it harms.
	Shown
	// Twice is for new ones: hidden, and both have to be the same.
	Twice
)

// maxSecret bounds what is read from a file that may be the wrong one.
const maxSecret = 4096

// Read the secret, which is never empty and the caller's to erase. Errors:
// *UsageError if it is nowhere to be had, those of reading.
func (s *Secret) Read(c *cobra.Command, ask Asking) ([]byte, error) {
	switch {
	case s.file != "" && s.env != "":
		return nil, Usagef("--%s-file and --%s-env exclude each other", s.Name, s.Name)
	case s.env != "":
		if value := os.Getenv(s.env); value != "" {
			return []byte(value), nil
		}
		return nil, Usagef("environment variable %s is empty or not set", s.env)
	case s.file == "-":
		return s.firstLine(c.InOrStdin(), "standard input")
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return s.firstLine(f, s.file)
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, Usagef("the %s is needed: --%s-file, --%s-env, or a terminal to ask on", s.What, s.Name, s.Name)
	}
	secret, err := s.prompt(c, s.What, ask)
	if err != nil || ask != Twice {
		return secret, err
	}
	again, err := s.prompt(c, s.What+" again", ask)
	defer clear(again)
	if err == nil && !bytes.Equal(secret, again) {
		err = errors.New("the two are not the same")
	}
	if err != nil {
		clear(secret)
		return nil, err
	}
	return secret, nil
}

func (s *Secret) prompt(c *cobra.Command, what string, ask Asking) ([]byte, error) {
	fmt.Fprintf(c.ErrOrStderr(), "%s: ", what)
	if ask == Shown {
		return s.firstLine(os.Stdin, "standard input")
	}
	typed, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(c.ErrOrStderr())
	if err == nil && len(typed) == 0 {
		err = fmt.Errorf("the %s is empty", s.What)
	}
	return typed, err
}

// firstLine reads no further than that, for a terminal has no end. Its end may be
// that of DOS; other white space is part of a secret.
func (s *Secret) firstLine(r io.Reader, from string) ([]byte, error) {
	line := make([]byte, 0, maxSecret)
	for len(line) < maxSecret {
		n, err := r.Read(line[len(line) : len(line)+1])
		line = line[:len(line)+n]
		if n > 0 && line[len(line)-1] == '\n' || err == io.EOF {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if len(line) == 0 {
				return nil, fmt.Errorf("%s: the %s is empty", from, s.What)
			}
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
	clear(line)
	return nil, fmt.Errorf("%s: %s of more than %d octets", from, s.What, maxSecret-1)
}
