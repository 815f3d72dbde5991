package join

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// secret is where one comes from. It is never a flag: other users of the host
// can read command lines.
type secret struct {
	name, what string
	file, env  string
}

func (s *secret) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.file, s.name+"-file", "", "file with the "+s.what+" in its first line; - is standard input")
	flags.StringVar(&s.env, s.name+"-env", "", "environment variable with the "+s.what)
}

func (s *secret) given() bool { return s.file != "" || s.env != "" }

// maxSecret bounds what is read from a file that may be the wrong one.
const maxSecret = 4096

// read the secret. Without a flag it is asked for on the terminal; echo shows
// what is typed, which for a code that is copied from paper helps more than it
// harms.
func (s *secret) read(c *cobra.Command, echo bool) ([]byte, error) {
	switch {
	case s.file != "" && s.env != "":
		return nil, usagef("--%s-file and --%s-env exclude each other", s.name, s.name)
	case s.env != "":
		if value := os.Getenv(s.env); value != "" {
			return []byte(value), nil
		}
		return nil, usagef("environment variable %s is empty or not set", s.env)
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
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return nil, usagef("the %s is needed: --%s-file, --%s-env, or a terminal to ask on", s.what, s.name, s.name)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: ", s.what)
	if echo {
		return s.firstLine(os.Stdin, "standard input")
	}
	typed, err := term.ReadPassword(in)
	fmt.Fprintln(c.ErrOrStderr())
	return typed, err
}

// firstLine reads no further than that, for a terminal has no end.
func (s *secret) firstLine(r io.Reader, from string) ([]byte, error) {
	line := make([]byte, 0, maxSecret)
	for len(line) < maxSecret {
		n, err := r.Read(line[len(line) : len(line)+1])
		line = line[:len(line)+n]
		if n > 0 && line[len(line)-1] == '\n' || err == io.EOF {
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				return nil, fmt.Errorf("%s: the %s is empty", from, s.what)
			}
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %s of more than %d octets", from, s.what, maxSecret-1)
}
