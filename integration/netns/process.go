package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a program that was started inside a namespace.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts a command inside the namespace, in a process group of its own:
// a Ctrl-C at the terminal reaches only this process, which then ends its
// children in order. They die with it, unless Outlive was called.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	n.mu.Lock()
	outlived := n.outlived
	n.mu.Unlock()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if !outlived {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := n.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: starting %s: %w", n.name, cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Run runs a command inside the namespace to its end and returns its standard
// output. Where it fails, the error ends with what it wrote to standard error.
func (n *Namespace) Run(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	p, err := n.Start(cmd)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		err = ctx.Err()
		p.Kill()
	}
	if err = errors.Join(err, p.Err()); err != nil {
		return []byte(out.String()), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return []byte(out.String()), nil
}

// PID of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended, nil for exit status 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends a signal; os.ErrProcessDone says that the program has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the program at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only where it has ended
	<-p.done
}

// Stop asks the program to end and kills it when it takes longer than grace.
// The error is how it ended.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s didn't end within %s and was killed", p.cmd.Path, grace)
	}
	return p.err
}

// Listen opens a TCP listener inside the namespace.
func (n *Namespace) Listen(at netip.AddrPort) (*net.TCPListener, error) {
	var l *net.TCPListener
	err := n.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	return l, err
}

// Dial opens a TCP connection from inside the namespace.
func (n *Namespace) Dial(to netip.AddrPort, timeout time.Duration) (*net.TCPConn, error) {
	var c net.Conn
	err := n.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: timeout}).Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ListenPacket opens a packet socket such as "udp4" or "ip4:icmp" inside the
// namespace.
func (n *Namespace) ListenPacket(network string, at netip.Addr) (net.PacketConn, error) {
	var c net.PacketConn
	err := n.Do(func() (err error) {
		address := at.String()
		if strings.HasPrefix(network, "udp") {
			address = netip.AddrPortFrom(at, 0).String()
		}
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}
