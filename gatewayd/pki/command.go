package pki

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// Directories that zero Defaults mean.
const (
	DefaultDir       = "/var/lib/gatewayd/pki"
	DefaultConfigDir = "/etc/gatewayd"
)

// Defaults of the flags.
type Defaults struct {
	// Dir of the CA.
	Dir string
	// ConfigDir takes the gateway's certificate and key.
	ConfigDir string
	// Config is the gateway's configuration, which profiles follow, where the
	// program has no flag --config. Empty means the defaults.
	Config string
}

// format of results; a flag that checks itself.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

func (f *format) Set(value string) error {
	switch value {
	case "table", "json", "yaml":
		*f = format(value)
		return nil
	}
	return fmt.Errorf("want table, json or yaml")
}

// state that the flags of one command tree fill.
type state struct {
	dir        string
	configDir  string
	config     string
	output     format
	passphrase command.Secret
}

// Command is the tree `pki`. Errors are returned, not printed; a *command.UsageError
// among them asks for exit code 2.
func Command(d Defaults) *cobra.Command {
	if d.Dir == "" {
		d.Dir = DefaultDir
	}
	if d.ConfigDir == "" {
		d.ConfigDir = DefaultConfigDir
	}
	s := &state{
		configDir: d.ConfigDir, config: d.Config, output: "table",
		passphrase: command.Secret{Name: "ca-passphrase", What: "passphrase of the CA's keys"},
	}
	c := &cobra.Command{
		Use:   "pki",
		Short: "Run a small certification authority for devices and gateways",
		Long: `Run a small certification authority for devices and gateways.

Every device certificate carries the instance OID of this installation; a
gateway that knows it admits the devices of this CA and no others.`,
		Example: `  gatewayd pki init
  gatewayd pki gateway vpn.example.org 203.0.113.7
  gatewayd pki device phone-1 --format p12
  gatewayd pki list
  gatewayd pki revoke phone-1 --reason key-compromise`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	c.PersistentFlags().StringVar(&s.dir, "dir", d.Dir, "directory of the CA")
	c.PersistentFlags().VarP(&s.output, "output", "o", "table, json or yaml")
	s.passphrase.Add(c.PersistentFlags())
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &command.UsageError{Err: err} })
	c.AddCommand(s.initCommand(), s.deviceCommand(), s.revokeCommand(),
		s.crlCommand(), s.listCommand(), s.showCommand(), s.caCommand())
	for _, r := range roles {
		c.AddCommand(s.roleCommand(r))
	}
	return c
}

func noArgs(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return &command.UsageError{Err: err}
	}
	return nil
}

// open the CA with its key, to write to its record.
func (s *state) open(c *cobra.Command) (*ca.CA, error) {
	reader, err := s.openReadOnly()
	if err != nil {
		return nil, err
	}
	err = reader.KeepsRecord()
	reader.Close()
	if err != nil {
		return nil, fmt.Errorf("%s: %w; see `gatewayd certificate --help`", s.dir, err)
	}
	a, err := ca.Open(s.dir, func() ([]byte, error) {
		return s.passphrase.Read(c, command.Hidden)
	})
	return a, s.hint(err)
}

// openReadOnly needs no passphrase.
func (s *state) openReadOnly() (*ca.CA, error) {
	a, err := ca.OpenSigner(s.dir, nil)
	return a, s.hint(err)
}

func (s *state) hint(err error) error {
	if errors.Is(err, ca.ErrNoCA) {
		return fmt.Errorf("%w; `gatewayd pki init --dir %s` makes one", err, s.dir)
	}
	return err
}

// row of a result in the table form.
type row struct{ name, value string }

// print a result: rows as a table, or value as JSON or YAML.
func (s *state) print(w io.Writer, value any, rows []row) error {
	return command.Print(w, string(s.output), value, func(t *tabwriter.Writer) {
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\n", r.name, r.value)
		}
	})
}

func day(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04Z")
}

func keyAlgorithms() string {
	var names []string
	for _, a := range ca.KeyAlgorithms {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}
