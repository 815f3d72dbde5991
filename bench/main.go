// Command bench loads VPN gateways and measures them. It speaks standard
// protocols only, so it measures any gateway.
//
// What lives here: the command tree, a file a command. What doesn't: devices
// (package device), pacing (package load), results (package report).
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
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errUsage is what is wrong with the command line.
var errUsage = errors.New("usage")

// version of the binary; the Makefile may say another.
var version = "devel"

func main() {
	letGarbageGather()
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

func execute(args []string, stdout, stderr io.Writer) int {
	// The first Ctrl-C ends the measurement, which still reports; the second
	// one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "bench: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "bench",
		Short: "Load generators for VPN gateways, enrollment and device management servers",
		Long: `Load generators for VPN gateways: any that speaks IKEv2 and ESP in UDP; for our
enrollment server; and for device management: any server that speaks OMA DM.

A target has to be on loopback or reached from within a network namespace,
unless --i-own-this-target says that you may load it. Every run is bounded.`,
		SilenceUsage: true, SilenceErrors: true, Version: version,
		Args: cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w\nsee `%s --help`", errUsage, err, c.CommandPath())
	})
	root.AddCommand(ikeCommand(), espCommand(), roamCommand(), resumeCommand(), fleetCommand(), enrollCommand(), dmCommand(), tunnelCommand(), flowCommand(), compareCommand(), renderCommand())
	return root
}
