package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
)

const gatewayID = "gw.demo.example"

// system is `gatewayd run all`.
type system struct {
	process *netns.Process
	said    string // a file
	log     string // another one
	code    string // of the first device
}

// start is what a newcomer does first.
func (d *demo) start(ctx context.Context) (string, error) {
	s := &system{said: filepath.Join(d.dir, "run-all.out"), log: filepath.Join(d.dir, "run-all.log")}
	out, err := os.Create(s.said)
	if err != nil {
		return "", err
	}
	defer out.Close()
	log, err := os.Create(s.log)
	if err != nil {
		return "", err
	}
	defer log.Close()
	c := exec.Command(d.program, "run", "all", "--dir", filepath.Join(d.dir, "lab"), "--id", gatewayID, "--quarantine",
		"--external", netns.OutsideLink, "--internal", netns.InsideLink)
	c.Stdout, c.Stderr = out, log
	if s.process, err = d.topology.Gateway.Start(c); err != nil {
		return "", err
	}
	d.system = s
	text, err := s.until(ctx, "API of device management")
	if err != nil {
		return "", err
	}
	code := regexp.MustCompile(`the code\s+(\S+)`).FindStringSubmatch(text)
	if code == nil {
		return "", fmt.Errorf("no code in what run all said:\n%s", text)
	}
	s.code = code[1]
	d.gateway = gateway.New(d.topology.Gateway, d.program, d.config(), gateway.MetricsAt)
	return "phone-1 may enroll with " + s.code, nil
}

// until it says something.
func (s *system) until(ctx context.Context, what string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(s.said)
		if err != nil || strings.Contains(string(text), what) {
			return string(text), err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("run all doesn't get ready: %w", ctx.Err())
		case <-s.process.Done():
			return "", fmt.Errorf("run all ended: %w", s.process.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail of its log.
func (s *system) tail(lines int) string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (d *demo) config() string { return filepath.Join(d.dir, "lab", "gatewayd.yaml") }

// gatewayd runs a command on the gateway's host.
func (d *demo) gatewayd(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, d.topology.Gateway, d.program, append(args, "--config", d.config())...)
	return string(out), err
}

// run a program inside a namespace and return what it printed.
func run(ctx context.Context, ns *netns.Namespace, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return ns.Run(ctx, exec.Command(program, args...))
}

// eventually waits for something; a check that fails says what is so far.
func eventually(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errNotYet = errors.New("not yet")
