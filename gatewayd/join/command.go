package join

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/discovery"
	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/enrollment/profile"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// flags of the command.
type flags struct {
	email, server    string
	code, password   command.Secret
	key, format      string
	profile, connect string
	out, output      string
	timeout          time.Duration
	dial             client.Dial // nil but in tests
}

// Command is `join`, to stand below `enrollment`. Errors are returned, not
// printed; a *command.UsageError among them asks for exit code 2.
func Command() *cobra.Command { return joinCommand(nil) }

func joinCommand(dial client.Dial) *cobra.Command {
	f := flags{
		dial:     dial,
		code:     command.Secret{Name: "code", What: "enrollment code"},
		password: command.Secret{Name: "password", What: "password of the PKCS#12 file"},
	}
	c := &cobra.Command{
		Use:   "join",
		Short: "Enroll this device with a one-time code",
		Long: `Enroll this device with the one-time code that its user was given: make a key,
prove the server by the code, get a certificate and what is needed to connect.

The server is found by the user's e-mail address, whose domain leads to
mobileenroll.DOMAIN or enterpriseenrollment.DOMAIN (the address itself isn't
sent), or named by --server. Its TLS certificate doesn't matter: a server that
can't show that it knows the code is not believed.

The folder --out comes into being whole or not at all:

  pem         NAME.pem, NAME.key, NAME.ca.pem (issuing CA and root)
  p12         NAME.p12; p12-legacy for older Windows, iOS and macOS
  --profile   what a client imports, see ` + "`gatewayd pki device --help`" + `
  always      NAME.configuration.json, what the server says about connecting

Without --password-file and --password-env a password is made for containers and
written to NAME.password.

If the enrollment breaks off, the same command goes on where it was: what that
takes lies in .OUT.joining beside the folder until then.`,
		Example: `  gatewayd enrollment join --email ann@example.com
  gatewayd enrollment join --server enroll.example.com --code-file ./code --out ./laptop
  gatewayd enrollment join --email ann@example.com --profile strongswan
  gatewayd enrollment join --email ann@example.com --key rsa-3072 --format p12 --password-file ./password`,
		SilenceUsage: true, SilenceErrors: true,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.NoArgs(c, args); err != nil {
				return command.Usagef("%w; the code isn't an argument, because others can read those: see `%s --help`", err, c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &command.UsageError{Err: err} })
	s := c.Flags()
	s.StringVar(&f.email, "email", "", "e-mail address of the user, to find the server")
	s.StringVar(&f.server, "server", "", "the server, HOST or HOST:PORT, in place of --email")
	f.code.Add(s)
	s.StringVar(&f.key, "key", string(client.KeyAlgorithms[0]), "kind of key: "+join(client.KeyAlgorithms))
	s.StringVar(&f.format, "format", "pem", join(formats))
	s.StringVar(&f.profile, "profile", "", "make a profile for a client: "+join(profile.Kinds))
	s.StringVar(&f.connect, "connect", "", "when the profile connects: "+join(profile.Connects))
	f.password.Add(s)
	s.StringVar(&f.out, "out", "enrolled", "new folder for the files")
	s.StringVarP(&f.output, "output", "o", "table", "table, json or yaml")
	s.DurationVar(&f.timeout, "timeout", 2*time.Minute, "after which to give up")
	for name, values := range map[string][]string{
		"key": texts(client.KeyAlgorithms), "format": texts(formats), "profile": texts(profile.Kinds),
		"connect": texts(profile.Connects), "output": texts(outputs),
	} {
		// Only an unknown flag is an error.
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

var outputs = []string{"table", "json", "yaml"}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func join[T ~string](list []T) string { return strings.Join(texts(list), ", ") }

// check what can be checked before anybody is asked for a code.
func (f *flags) check(c *cobra.Command) error {
	if (f.email == "") == (f.server == "") {
		return command.Usagef("want --email or --server: how is the server found?")
	}
	if f.email != "" {
		if _, err := discovery.Names(f.email); err != nil {
			return command.Usagef("--email: %w", err)
		}
	} else if _, err := client.Address(f.server); err != nil {
		return command.Usagef("--%w", err)
	}
	set := c.Flags()
	for name, list := range map[string][]string{
		"key": texts(client.KeyAlgorithms), "format": texts(formats), "profile": texts(profile.Kinds),
		"connect": texts(profile.Connects), "output": outputs,
	} {
		if value := set.Lookup(name).Value.String(); value != "" && !slices.Contains(list, value) {
			return command.Usagef("--%s %q is none of %s", name, value, strings.Join(list, ", "))
		}
	}
	switch {
	case f.profile != "" && set.Changed("format"):
		return command.Usagef("--format and --profile exclude each other")
	case f.profile == "" && f.connect != "":
		return command.Usagef("--connect is for --profile")
	case f.timeout <= 0:
		return command.Usagef("--timeout %s, want more than 0", f.timeout)
	}
	if k := profile.Kind(f.profile); (k == profile.SSwan || k == profile.Android) && !set.Changed("key") {
		f.key = string(client.RSA3072) // the strongSwan app asks Android for RSA keys
	}
	return nil
}

// result is what the command prints.
type result struct {
	Device   string    `json:"device"`
	Instance string    `json:"instance"`
	Server   string    `json:"server"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Renew    time.Time `json:"renew_from"`
	Files    []string  `json:"files"`
	Notes    []string  `json:"notes,omitempty"`
}

func (f *flags) run(c *cobra.Command) error {
	if err := f.check(c); err != nil {
		return err
	}
	place, err := newPlace(f.out)
	if err != nil {
		return err
	}
	code, err := f.readCode(c)
	if err != nil {
		return err
	}
	defer code.Password.Erase()
	password, err := f.readPassword(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
	defer cancel()
	r, err := f.enroll(ctx, c.ErrOrStderr(), place, code)
	if err != nil {
		return explain(err)
	}
	set, err := makeFiles(r, f, password)
	if err == nil {
		err = place.finish(set.files)
	}
	if err != nil {
		return fmt.Errorf("certificate %s was issued, but: %w; the same command tries again", serial(r.Certificate), err)
	}
	out := result{
		Device: r.Certificate.Subject.CommonName, Instance: r.Instance, Server: r.Server, Serial: serial(r.Certificate),
		NotAfter: r.Certificate.NotAfter, Renew: r.RenewFrom, Files: place.paths(set.files), Notes: append(r.Notes, set.notes...),
	}
	return f.print(c.OutOrStdout(), &out)
}

func serial(c *x509.Certificate) string { return ca.SerialString(c.SerialNumber) }

func (f *flags) readCode(c *cobra.Command) (otp.Code, error) {
	text, err := f.code.Read(c, command.Shown)
	if err != nil {
		return otp.Code{}, err
	}
	defer clear(text)
	code, err := otp.ParseCode(string(text))
	if err != nil {
		return otp.Code{}, fmt.Errorf("%w: want 24 letters and digits in groups of four, request and password in one", err)
	}
	return code, nil
}

// enroll, or go on with an enrollment that broke off.
func (f *flags) enroll(ctx context.Context, w io.Writer, place *place, code otp.Code) (*client.Result, error) {
	o := client.Options{
		Code: code, Email: f.email, Server: f.server, Dial: f.dial,
		Say:  func(line string) { fmt.Fprintln(w, line) },
		Save: func(p client.Pending) error { return place.save(code.ID, p) },
	}
	var err error
	if o.Pending, err = place.pending(code.ID); err != nil {
		return nil, err
	}
	if o.Pending != nil {
		fmt.Fprintln(w, "going on with the enrollment that broke off")
	} else if o.Key, err = client.GenerateKey(client.KeyAlgorithm(f.key)); err != nil {
		return nil, err
	}
	r, err := client.Join(ctx, o)
	if err != nil && errors.Is(err, client.ErrRefused) {
		// The server knows the code and won't: nothing is there to go on with.
		place.forget()
	}
	return r, err
}

// explain adds what to do.
func explain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: --timeout is over", err)
	case errors.Is(err, client.ErrUnproven):
		return fmt.Errorf("%w: compare the code with what you were given; a code works once and expires (ask for a new one); "+
			"or somebody stands between this device and the server (try another network)", err)
	case errors.Is(err, client.ErrUnreachable):
		return fmt.Errorf("%w; is this device online? Name the server with --server", err)
	case errors.Is(err, client.ErrTampered):
		return fmt.Errorf("%w: somebody stands between this device and the server; nothing was written, try another network", err)
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("%w; is it the enrollment server, and does TLS end there? Name it with --server", err)
	}
	return err
}

func (f *flags) print(w io.Writer, r *result) error {
	return command.Print(w, f.output, r, func(t *tabwriter.Writer) {
		for _, row := range [][2]string{
			{"device", r.Device}, {"instance", r.Instance}, {"server", r.Server}, {"serial", r.Serial},
			{"until", r.NotAfter.UTC().Format("2006-01-02 15:04Z")}, {"renew from", r.Renew.UTC().Format("2006-01-02 15:04Z")},
			{"files", strings.Join(r.Files, " ")},
		} {
			fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
		}
		for _, note := range r.Notes {
			fmt.Fprintf(t, "note\t%s\n", note)
		}
	})
}
