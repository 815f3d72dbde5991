package main

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/admit"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
	"github.com/roamgate/roamgate/gatewayd/records"
)

// Reload reads the configuration file again. With an error nothing has
// changed.
func (g *gateway) Reload() (local.Reloaded, error) {
	g.reload.Lock()
	defer g.reload.Unlock()
	r, err := g.tryReload()
	if err == nil {
		g.logger.Info("configuration reloaded", slog.Any("need_restart", r.NeedRestart))
		logWarnings(g.logger, r.Warnings)
		return r, nil
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		g.logger.Error("reload refused, nothing has changed", slog.String("error", line))
	}
	g.mu.Lock()
	g.reloadsFailed++
	g.mu.Unlock()
	return r, err
}

func (g *gateway) tryReload() (local.Reloaded, error) {
	g.mu.Lock()
	running, draining, roll := g.file, g.draining, admit.Roll(nil)
	g.mu.Unlock()
	if draining {
		return local.Reloaded{}, errDraining
	}
	file, err := config.Load(running.Name())
	if err != nil {
		return local.Reloaded{}, problems(err)
	}
	needRestart := config.NeedRestart(running, file)
	file.Adopt(running)
	effective := file
	if g.management != nil {
		roll = g.management.roll
		if effective, err = g.management.effective(file); err != nil {
			return local.Reloaded{}, problems(err)
		}
	}
	built, err := effective.BuildWith(time.Now(), roll)
	if err != nil {
		return local.Reloaded{}, problems(err)
	}
	recordFile, err := records.Open(built.Records)
	if err != nil {
		return local.Reloaded{}, file.Problem("gateway.records.file", err.Error())
	}
	if err := g.change(effective, built); err != nil {
		if recordFile != nil {
			recordFile.Close()
		}
		return local.Reloaded{}, err
	}
	g.records.Use(recordFile)
	if g.management != nil {
		g.management.file.Store(file)
	} else if err := g.tickets.Refresh(time.Now(), time.Duration(file.Gateway.Resumption.Lifetime)); err != nil {
		g.logger.Warn("ticket keys stay as they were", slog.Any("error", err))
	}
	g.level.Set(slog.Level(file.Log.Level))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file, g.config, g.built, g.needRestart, g.loaded = file, effective, built, needRestart, time.Now()
	return local.Reloaded{NeedRestart: append([]string{}, needRestart...), Warnings: append([]string{}, built.Warnings...)}, nil
}

// change hands the configuration to those who run. Each of them checks before it
// changes anything; if one refuses, those before it go back to what they had. A
// route too many does no harm, and is taken back by the sweep.
func (g *gateway) change(file *config.Config, built *config.Built) error {
	g.mu.Lock()
	before, pools := g.built, g.config.Gateway.Static.Inside()
	g.mu.Unlock()
	if err := lacksAlgorithm(g.backend.Features().Algorithms, file); err != nil {
		return file.Problem("gateway.esp.proposals", err.Error())
	}
	if err := g.routes.add(file.Gateway.Static.Inside()); err != nil {
		return err
	}
	if err := g.inform.use(built.Inform, file.Gateway.Static.Inside()); err != nil {
		return errors.Join(err, g.routes.add(pools))
	}
	if err := g.leases.Reconfigure(built.Leases); err != nil {
		return errors.Join(err, g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	// What the policy at work leads to is there until it is replaced.
	groups := alongside(built.Groups, before.Groups)
	if err := g.lists.SetGroups(groups); err != nil {
		return errors.Join(err, g.leases.Reconfigure(before.Leases), g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	// From here on a device whose group is gone is in another.
	moved := g.management.inForce(built.Groups)
	if err := g.sessions.Update(g.settings(built)); err != nil {
		g.management.inForce(before.Groups)
		return errors.Join(err, g.lists.SetGroups(before.Groups), g.leases.Reconfigure(before.Leases), g.inform.use(before.Inform, pools), g.routes.add(pools))
	}
	if moved {
		g.sessions.RecheckAll()
	}
	if len(groups) > len(built.Groups) {
		if err := g.lists.SetGroups(built.Groups); err != nil {
			g.logger.Error("groups that are no longer configured stay", slog.Any("error", err))
		}
	}
	// The configuration was checked as the program would: this can't be refused.
	if err := g.guard.use(file.Gateway.Guard.Settings()); err != nil {
		g.logger.Error("guard", slog.Any("error", err))
	}
	return nil
}

// problems makes many errors of one, so that the local API tells them one by
// one.
func problems(err error) error {
	var list config.Problems
	if !errors.As(err, &list) {
		return err
	}
	errs := make([]error, len(list))
	for i := range list {
		errs[i] = list[i]
	}
	return errors.Join(errs...)
}

func logWarnings(logger *slog.Logger, warnings []string) {
	for _, w := range warnings {
		logger.Warn("configuration", slog.String("warning", w))
	}
}
