package main

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dmlink/api"
	"github.com/roamgate/roamgate/dmlink/api/client"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// managerFlags say which manager is talked to, and as whom: what is empty comes
// from the section client of the configuration; where that names no manager, it
// is the one on this host, over its socket.
type managerFlags struct {
	global                         *global
	server, certificate, key, file string
	roots                          []string
	local                          bool
}

func (f *managerFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.server, "admin-url", "", "https URL of the manager's listener for administrators (default: client.manager of the configuration, or the local socket)")
	flags.StringVar(&f.certificate, "admin-certificate", "", "your certificate, PEM")
	flags.StringVar(&f.key, "admin-key", "", "its key, PEM")
	flags.StringVar(&f.file, "admin-token-file", "", "a file with your token in its first line, in place of a certificate")
	flags.StringSliceVar(&f.roots, "admin-root", nil, "root of the server's certificate, PEM")
	flags.BoolVar(&f.local, "local", false, "talk to the manager on this host over its socket, as the user that you are")
}

// dial makes a client. The caller closes it.
func (f *managerFlags) dial() (*client.Client, error) {
	given := config.ClientManager{Server: f.server, Certificate: f.certificate, Key: f.key, TokenFile: f.file, Roots: f.roots}
	if f.local {
		if f.server != "" {
			return nil, usage("--local and --admin-url are two servers: name one")
		}
		return client.Local(f.socket()), nil
	}
	s, err := f.fill(given)
	if err != nil {
		return nil, err
	}
	if s.Server == "" {
		if given.Certificate != "" || given.Key != "" || given.TokenFile != "" || len(given.Roots) > 0 {
			return nil, usage("who you are is told, and no server: name it with --admin-url, or in client.manager of the configuration")
		}
		return client.Local(f.socket()), nil
	}
	return remote(s)
}

// socket of the manager on this host.
func (f *managerFlags) socket() string {
	return cmp.Or(f.global.socket, config.ManagerSocketOf(f.global.config))
}

// fill in from the configuration what flags don't say.
func (f *managerFlags) fill(s config.ClientManager) (config.ClientManager, error) {
	if s.Server != "" && (s.TokenFile != "" || s.Certificate != "" && s.Key != "") && len(s.Roots) > 0 {
		return s, nil
	}
	cfg, err := config.Load(f.global.config)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if !cfg.Has("client") || cfg.Client.Manager.Server == "" {
		return s, nil
	}
	c := cfg.Client.Manager
	s.Server = cmp.Or(s.Server, c.Server)
	if s.TokenFile == "" && s.Certificate == "" && s.Key == "" {
		s.TokenFile, s.Certificate, s.Key = cfg.Path(c.TokenFile), cfg.Path(c.Certificate), cfg.Path(c.Key)
	}
	if len(s.Roots) == 0 {
		for _, r := range c.Roots {
			s.Roots = append(s.Roots, cfg.Path(r))
		}
	}
	return s, nil
}

// remote is a client over HTTPS.
func remote(s config.ClientManager) (*client.Client, error) {
	c := client.Config{Server: s.Server}
	var err error
	switch {
	case s.TokenFile != "" && (s.Certificate != "" || s.Key != ""):
		return nil, usage("a token and a certificate are two ways to say who you are: give one")
	case s.TokenFile != "":
		if c.Token, err = readToken(s.TokenFile); err != nil {
			return nil, err
		}
	default:
		own, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, hinted{fmt.Errorf("your certificate: %w", err), "Name it with --admin-certificate and --admin-key, or a token with --admin-token-file."}
		}
		c.Certificate = &own
	}
	if len(s.Roots) > 0 {
		c.Roots = x509.NewCertPool()
	}
	for _, file := range s.Roots {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !c.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: no certificate in PEM", file)
		}
	}
	return client.New(c)
}

// readToken from the first line of a file that only its owner may read.
func readToken(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return "", hinted{fmt.Errorf("token: others may read %s (mode %04o)", name, info.Mode().Perm()), "chmod 600 " + name}
	}
	line, err := bufio.NewReaderSize(file, 256).ReadSlice('\n')
	token := strings.TrimSpace(string(line))
	if token == "" || err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("token: the first line of %s has none", name)
	}
	return token, nil
}

// with runs a command with a client.
func (f *managerFlags) with(run func(*cobra.Command, []string, *client.Client) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		m, err := f.dial()
		if err != nil {
			return err
		}
		defer m.Close()
		return explainManager(run(c, args, m))
	}
}

// explainManager adds what to do about an error of the API.
func explainManager(err error) error {
	var p *api.Problem
	var connect *net.OpError
	switch {
	case errors.As(err, &p) && p.Hint != "":
		return hinted{err, p.Hint}
	case errors.Is(err, unix.EACCES):
		return hinted{err, "Try again as root, or name the server with --admin-url, as an administrator with a certificate or token."}
	case errors.As(err, &connect) && connect.Op == "dial":
		return hinted{err, "Does it run? `gatewayd run manager`, or `run all`. Another one is named with --admin-url, or in client.manager of the configuration."}
	}
	return err
}

// completed makes the completion of a first argument by what a manager has.
func (f *managerFlags) completed(list func(*cobra.Command, *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		m, err := f.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer m.Close()
		names, err := list(c, m)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// maxCompleted bounds what completion asks for.
const maxCompleted = 100

func (f *managerFlags) managed() cobra.CompletionFunc {
	return f.completed(func(c *cobra.Command, m *client.Client) ([]string, error) {
		p, err := client.Call(c.Context(), m, api.DeviceList, &api.ListDevices{Paging: api.Paging{Limit: maxCompleted}})
		var names []string
		for _, d := range p.Items {
			names = append(names, d.Name+"\t"+d.User)
		}
		return names, err
	})
}
