package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// soakEnv opens the gate of tests that are too long for `make test`.
const soakEnv = "ROAMGATE_SOAK"

// soakParts: every fuzz target there is for a while, then the tests that wait
// for soakEnv.
func soakParts(ctx context.Context, each time.Duration) ([]part, error) {
	packages, err := goList(ctx, "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}")
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, pkg := range packages {
		if pkg == "" {
			continue
		}
		targets, err := fuzzTargets(ctx, pkg)
		if err != nil {
			return nil, err
		}
		for _, target := range targets {
			parts = append(parts, part{
				name: short(pkg) + "." + target,
				args: []string{"-run=^$", "-fuzz=^" + target + "$", "-fuzztime=" + each.String(), pkg},
			})
		}
	}
	env, err := programs()
	if err != nil {
		return nil, err
	}
	return append(parts, part{
		name: "scale", root: true,
		env:  append(env, soakEnv+"=1"),
		args: []string{"-count=1", "-p=1", "-timeout=4h", "-run=^TestSoak", "./..."},
	}), nil
}

func fuzzTargets(ctx context.Context, pkg string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list=^Fuzz", pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the fuzz targets of %s: %w\n%s", pkg, err, out)
	}
	var targets []string
	for line := range bytes.Lines(out) {
		if name := strings.TrimSpace(string(line)); strings.HasPrefix(name, "Fuzz") {
			targets = append(targets, name)
		}
	}
	return targets, nil
}
