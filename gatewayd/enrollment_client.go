package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/admin"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// adminFlags say which enrollment server is talked to, and as whom; what is
// empty comes from the section client of the configuration.
type adminFlags struct {
	global                   *global
	server, certificate, key string
	roots                    []string
}

func (f *adminFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.server, "admin-url", "", "https URL of the server's listener for administrators (default: client.enrollment of the configuration)")
	flags.StringVar(&f.certificate, "admin-certificate", "", "your certificate, PEM")
	flags.StringVar(&f.key, "admin-key", "", "its key, PEM")
	flags.StringSliceVar(&f.roots, "admin-root", nil, "root of the server's certificate, PEM")
}

// dial makes a client. The caller closes it.
func (f *adminFlags) dial() (*admin.Client, error) {
	s := config.ClientServer{Server: f.server, Certificate: f.certificate, Key: f.key, Roots: f.roots}
	if s.Server == "" || s.Certificate == "" || s.Key == "" || len(s.Roots) == 0 {
		if err := f.fill(&s); err != nil {
			return nil, err
		}
	}
	own, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, fmt.Errorf("your certificate: %w", err)
	}
	pool := x509.NewCertPool()
	for _, file := range s.Roots {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: no certificate in PEM", file)
		}
	}
	return admin.NewClient(s.Server, own, pool), nil
}

func (f *adminFlags) fill(s *config.ClientServer) error {
	hint := "Name the server with --admin-url, --admin-certificate, --admin-key and --admin-root, or in the section client of the configuration."
	cfg, err := config.Load(f.global.config)
	if errors.Is(err, fs.ErrNotExist) {
		return hinted{err, hint}
	}
	if err != nil {
		return err
	}
	if !cfg.Has("client") {
		return hinted{fmt.Errorf("%s has no section client", f.global.config), hint}
	}
	c := cfg.Client.Enrollment
	for _, v := range []struct {
		to   *string
		from string
	}{{&s.Server, c.Server}, {&s.Certificate, cfg.Path(c.Certificate)}, {&s.Key, cfg.Path(c.Key)}} {
		if *v.to == "" {
			*v.to = v.from
		}
	}
	if len(s.Roots) == 0 {
		for _, r := range c.Roots {
			s.Roots = append(s.Roots, cfg.Path(r))
		}
	}
	return nil
}

// with runs a command with a client.
func (f *adminFlags) with(run func(*cobra.Command, []string, *admin.Client) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		client, err := f.dial()
		if err != nil {
			return err
		}
		defer client.Close()
		return explainAdmin(run(c, args, client))
	}
}

// explainAdmin adds what to do about an error of the API.
func explainAdmin(err error) error {
	var p *admin.Problem
	var connect *net.OpError
	switch {
	case errors.As(err, &p) && p.Status == 403:
		return hinted{err, "You need a certificate of an administrator: `gatewayd certificate issue admin NAME`, by one who has."}
	case errors.As(err, &connect) && connect.Op == "dial":
		return hinted{err, "Does it run? `gatewayd run enrollment`"}
	}
	return err
}

// completed makes the completion of a first argument by what a server has.
func (f *adminFlags) completed(list func(*cobra.Command, *admin.Client) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client, err := f.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer client.Close()
		names, err := list(c, client)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
