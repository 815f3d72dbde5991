// Command gatewayd is an IKEv2 VPN gateway for fleets of devices. The roles are
// below `gatewayd run`; everything else prepares, inspects or administers them.
//
// What lives here: the command tree, a file a command, and the linear wiring
// of each role (run_gateway.go). What doesn't: anything that would work without
// a command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/command"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/pki"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

func execute(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var silent silentError
	if !errors.As(err, &silent) {
		fmt.Fprintf(stderr, "gatewayd: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailed
}

// global flags.
type global struct {
	config string
	socket string
}

func rootCommand() *cobra.Command {
	g := &global{}
	root := group("gatewayd", "IKEv2 VPN gateway for fleets of devices",
		g.initCommand(), g.runCommand(), pki.Command(pki.Defaults{}), g.configCommand(), g.doctorCommand(),
		g.enrollmentCommand(), g.certificateCommand(),
		g.serverCommand(), g.gatewayCommand(), g.deviceCommand(), g.scheduleCommand(), g.taskCommand(), g.policyCommand(), g.inventoryCommand(), g.roleCommand(), g.auditCommand(), g.databaseCommand(),
		g.statusCommand(), g.sessionCommand(), g.leaseCommand(), g.dropsCommand(), g.guardCommand(), g.reloadCommand(), g.stopCommand(),
		versionCommand())
	root.Long = `IKEv2 VPN gateway for fleets of devices.

Exit codes: 0 ok, 1 failed, 2 wrong usage.`
	root.Example = `  gatewayd init
  gatewayd doctor
  gatewayd run gateway
  gatewayd session list`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentFlags().StringVarP(&g.config, "config", "c", config.SystemFile, "configuration file")
	root.PersistentFlags().StringVar(&g.socket, "socket", "", "local socket of the gateway (default: in the configuration's runtime_dir)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage("%w; see `%s --help`", err, c.CommandPath()) })
	return root
}

// group makes a command of commands.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  args(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(commands...)
	return c
}

func usage(format string, args ...any) error { return command.Usagef(format, args...) }

// silentError is a failure that was told already.
type silentError struct{}

func (silentError) Error() string { return "failed" }

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, list []string) error {
		if err := check(c, list); err != nil {
			return usage("%w; see `%s --help`", err, c.CommandPath())
		}
		return nil
	}
}
