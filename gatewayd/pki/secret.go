package pki

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// secretFlags say where a secret comes from. The secret itself is never a
// flag: other users of the host can read command lines.
type secretFlags struct {
	name, what string
	file, env  string
}

func (f *secretFlags) add(flags *pflag.FlagSet, name, what string) {
	f.name, f.what = name, what
	flags.StringVar(&f.file, name+"-file", "", "file with the "+what+" in its first line; - is standard input")
	flags.StringVar(&f.env, name+"-env", "", "environment variable with the "+what)
}

func (f *secretFlags) given() bool { return f.file != "" || f.env != "" }

// maxSecret bounds what is read from a file that may be the wrong one.
const maxSecret = 4096

// read returns the secret, never an empty one. Without a flag it asks on the
// terminal, twice if it is a new one.
func (f *secretFlags) read(c *cobra.Command, isNew bool) ([]byte, error) {
	switch {
	case f.file != "" && f.env != "":
		return nil, usagef("--%s-file and --%s-env exclude each other", f.name, f.name)
	case f.env != "":
		value := os.Getenv(f.env)
		if value == "" {
			return nil, usagef("environment variable %s is empty or not set", f.env)
		}
		return []byte(value), nil
	case f.file == "-":
		return f.firstLine(c.InOrStdin(), "standard input")
	case f.file != "":
		file, err := os.Open(f.file)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return f.firstLine(file, f.file)
	}
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		return nil, usagef("the %s is needed: --%s-file, --%s-env, or a terminal to ask on", f.what, f.name, f.name)
	}
	secret, err := prompt(c, terminal, f.what)
	if err != nil || !isNew {
		return secret, err
	}
	again, err := prompt(c, terminal, f.what+" again")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(secret, again) {
		return nil, fmt.Errorf("the two are not the same")
	}
	return secret, nil
}

func (f *secretFlags) firstLine(r io.Reader, from string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s: %s of more than %d bytes", from, f.what, maxSecret)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("%s: the %s is empty", from, f.what)
	}
	return line, nil
}

func prompt(c *cobra.Command, terminal int, what string) ([]byte, error) {
	fmt.Fprintf(c.ErrOrStderr(), "%s: ", what)
	secret, err := term.ReadPassword(terminal)
	fmt.Fprintln(c.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("the %s is empty", what)
	}
	return secret, nil
}
