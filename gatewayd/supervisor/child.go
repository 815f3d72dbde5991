package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Child is a process that is to run.
type Child struct {
	// Name is how it is called in logs and errors.
	Name string
	// Program and Args are what is run.
	Program string
	Args    []string
	// User and Group are the IDs it runs as; both zero: as those of the supervisor.
	User, Group uint32
	// Output takes what it writes.
	Output io.Writer
}

// keeper keeps one child running.
type keeper struct {
	child   Child
	grace   time.Duration
	logger  *slog.Logger
	backoff backoff
	// served is closed when the child has served for the first time.
	served chan struct{}

	mu      sync.Mutex
	process *os.Process // nil while none runs
}

// errEnded says that a child ended with status 0 by itself.
var errEnded = errors.New("ended in order")

// keep runs the child again and again. It returns nil when ctx ends and the child
// has ended, errEnded, or why the child can't be started.
func (k *keeper) keep(ctx context.Context) error {
	for {
		served, err := k.once(ctx)
		if ctx.Err() != nil {
			if err != nil {
				k.logger.Warn("role ended badly", slog.String("role", k.child.Name), slog.Any("error", err))
			}
			return nil
		}
		if err == nil {
			return errEnded
		}
		select {
		case <-k.served:
		default:
			return fmt.Errorf("%s: %w", k.child.Name, err)
		}
		pause := k.backoff.after(served)
		k.logger.Error("role died, starting it again", slog.String("role", k.child.Name), slog.Any("error", err), slog.Duration("after", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// once runs the child to its end, and says for how long it served.
func (k *keeper) once(ctx context.Context) (time.Duration, error) {
	owner := -1
	if k.child.User != 0 {
		owner = int(k.child.User)
	}
	said, err := listen(owner)
	if err != nil {
		return 0, err
	}
	defer said.close()
	// Not CommandContext: how it ends is told below.
	c := exec.Command(k.child.Program, k.child.Args...)
	c.Stdout, c.Stderr = k.child.Output, k.child.Output
	c.Env = append(withoutNotify(os.Environ()), "NOTIFY_SOCKET="+said.path())
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if k.child.User != 0 || k.child.Group != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: k.child.User, Gid: k.child.Group}
	}

	ended := make(chan error, 1)
	started := make(chan error, 1)
	go func() {
		// The death signal comes when the thread that started the child ends
		// (PR_SET_PDEATHSIG in prctl(2)), so that thread stays until the child ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			ended <- c.Wait()
		}
	}()
	if err := <-started; err != nil {
		return 0, err
	}
	k.mu.Lock()
	k.process = c.Process
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.process = nil
		k.mu.Unlock()
	}()

	var mu sync.Mutex
	var since time.Time
	go said.states(func(key, value string) {
		if key != "READY" || value != "1" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if since.IsZero() {
			since = time.Now()
			select {
			case <-k.served:
			default:
				close(k.served)
			}
		}
	})
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = k.end(c.Process, ended)
	}
	mu.Lock()
	defer mu.Unlock()
	if since.IsZero() {
		return 0, err
	}
	return time.Since(since), err
}

// end asks the child to end, and kills it when its time is up.
func (k *keeper) end(p *os.Process, ended <-chan error) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(k.grace):
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-ended
		return fmt.Errorf("didn't end within %v and was killed", k.grace)
	}
}

// signal the child, if it runs.
func (k *keeper) signal(s os.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return
	}
	if err := k.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		k.logger.Warn("role could not be told", slog.String("role", k.child.Name), slog.String("signal", s.String()), slog.Any("error", err))
	}
}

// withoutNotify takes the supervisor's own socket out of an environment.
func withoutNotify(environ []string) []string {
	kept := make([]string, 0, len(environ)+1)
	for _, e := range environ {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			kept = append(kept, e)
		}
	}
	return kept
}
