package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/supervisor"
)

// endOfRole is how long a role may take to end: sessions are deleted, requests
// answered.
const endOfRole = 40 * time.Second

// Capabilities of the roles (capabilities(7)), those of their systemd units.
var (
	gatewayCapabilities = []uintptr{12, 10, 38, 39} // NET_ADMIN, NET_BIND_SERVICE, PERFMON, BPF
	serversCapabilities = []uintptr{10}             // NET_BIND_SERVICE
)

func (g *global) runAllCommand() *cobra.Command {
	f := &initAllFlags{}
	c := &cobra.Command{
		Use:   "all",
		Short: "Run all roles on this host, for evaluation and small sites",
		Long: `Run a gateway, and the enrollment and device management servers that configure it,
as two processes: the CA is out of the gateway's reach. One that dies is started
again, and the other works on. SIGTERM, SIGINT or ` + "`gatewayd stop`" + ` end both, SIGHUP
reloads both.

Without a configuration the first start makes one, as ` + "`gatewayd init all`" + ` does with
the same flags, and says how to enroll the first device. Later starts just start.`,
		Example: `  gatewayd run all
  gatewayd run all --external eth0 --internal eth1 --id vpn.example.com --url https://vpn.example.com
  gatewayd run all --dir ./lab --external gw-out --internal gw-in`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return f.runAll(c, g) },
	}
	f.add(c)
	return c
}

func (f *initAllFlags) runAll(c *cobra.Command, g *global) error {
	if f.dir != "" && c.Flags().Changed("config") {
		return usage("--dir and --config exclude each other: the file is gatewayd.yaml in the folder")
	}
	file, err := filepath.Abs(f.file(g))
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	_, err = os.Stat(file)
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		fmt.Fprintf(w, "%s isn't there: making it, as `gatewayd init all` does.\n\n", file)
		if err := f.run(w, g, c.Flags().Changed("config")); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	for _, role := range []string{"gateway", "manager", "enrollment"} {
		if err := cfg.Require(role); err != nil {
			return err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(slog.Level(cfg.Log.Level))
	logger := newLogger(c.ErrOrStderr(), cfg.Log.Format, level)
	child := func(role, owner string, capabilities []uintptr, own belongings) (supervisor.Child, error) {
		child := supervisor.Child{Name: role, Program: program, Args: []string{"run", role, "--config", file}, Output: c.ErrOrStderr()}
		u, err := user.Lookup(owner)
		if err != nil || os.Geteuid() != 0 || file != config.SystemFile {
			return child, nil // as who runs this
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return child, fmt.Errorf("user %s: uid %q", owner, u.Uid)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return child, fmt.Errorf("user %s: gid %q", owner, u.Gid)
		}
		child.User, child.Group, child.Capabilities = uint32(uid), uint32(gid), capabilities
		return child, own.give(owner, int(uid), int(gid))
	}
	servers, err := child("manager,enrollment", enrollmentUser, serversCapabilities, serversBelongings(cfg))
	if err != nil {
		return err
	}
	gateway, err := child("gateway", "gatewayd", gatewayCapabilities, gatewayBelongings(cfg))
	if err != nil {
		return err
	}

	manager := notify{logger}
	serving := make(chan struct{})
	s := supervisor.New(supervisor.Config{
		Children: []supervisor.Child{servers, gateway}, Grace: endOfRole, Logger: logger,
		Serving: func() { close(serving) },
	})
	ctx, stop := context.WithCancelCause(c.Context())
	defer stop(nil)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				s.Signal(syscall.SIGHUP)
			}
		}
	}()
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-serving:
		}
		if err := firstSteps(ctx, file, cfg, first, w); err != nil && ctx.Err() == nil {
			stop(fmt.Errorf("first steps: %w", err))
			return
		}
		manager.ready()
	}()
	err = s.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}
