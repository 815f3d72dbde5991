package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/database"
)

func (g *global) configCommand() *cobra.Command {
	return group("config", "Check, show and explain the configuration", g.configCheck(), g.configShow(), configSample())
}

// file is the argument, or what --config says.
func (g *global) file(names []string) string {
	if len(names) > 0 {
		return names[0]
	}
	return g.config
}

func (g *global) configCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration and the files it names",
		Long: `Check a configuration and the certificates, keys and revocation lists it names.
Every error is listed with line, key, what was found and what was expected.`,
		Example: `  gatewayd config check
  gatewayd config check ./gatewayd.yaml`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			file := g.file(names)
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			warnings, err := checkFiles(cfg, time.Now())
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", file)
			return err
		},
	}
}

// checkFiles that the sections of a configuration name.
func checkFiles(cfg *config.Config, now time.Time) (warnings []string, err error) {
	if cfg.ForGateway() {
		built, err := cfg.Build(now)
		if err != nil {
			return nil, err
		}
		if _, err := innerMTU(cfg); err != nil {
			return nil, err
		}
		warnings = append(warnings, built.Warnings...)
	}
	if cfg.Has("enrollment") {
		built, err := cfg.BuildEnrollment(now)
		if err != nil {
			return nil, err
		}
		if err := database.Check(databaseOf(cfg, []string{"enrollment"})); err != nil {
			return nil, cfg.Problem("enrollment.database.postgres", err.Error())
		}
		warnings = append(warnings, built.Warnings...)
	}
	if cfg.Has("manager") {
		built, err := cfg.BuildManager(now)
		if err != nil {
			return nil, err
		}
		if err := database.Check(databaseOf(cfg, []string{"manager"})); err != nil {
			return nil, cfg.Problem("manager.database.postgres", err.Error())
		}
		warnings = append(warnings, built.Warnings...)
	}
	return warnings, nil
}

func (g *global) configShow() *cobra.Command {
	var o *output
	c := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the effective configuration, defaults included",
		Example: `  gatewayd config show
  gatewayd config show -o json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			cfg, err := config.Load(g.file(names))
			if err != nil {
				return err
			}
			print := cfg.YAML
			if o.format == "json" {
				print = cfg.JSON
			}
			text, err := print()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s", text)
			return err
		},
	}
	o = addOutput(c, "yaml", "json")
	return c
}

func configSample() *cobra.Command {
	return &cobra.Command{
		Use:     "sample",
		Short:   "Print a commented configuration with every key",
		Example: `  gatewayd config sample > gatewayd.yaml`,
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Sample)
			return err
		},
	}
}
