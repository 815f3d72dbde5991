package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// Server of a test.
type Server struct {
	t         testing.TB
	dir       string
	bin       string
	attr      *syscall.SysProcAttr
	command   *exec.Cmd
	life      io.Closer // the server ends when it is closed
	databases atomic.Int32
}

// Start a server. Without PostgreSQL on the machine the test is
// skipped; where ROAMGATE_INTEGRATION is 1 it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	p := &Server{t: t, bin: postgresBin(t), attr: &syscall.SysProcAttr{}}
	// Not t.TempDir: a socket's path is short, and another user has to get in.
	var err error
	if p.dir, err = os.MkdirTemp("", "roamgate-pg-"); err != nil { //nolint:usetesting // see above
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	if os.Geteuid() == 0 {
		p.unprivileged()
	}
	p.run("initdb", "-D", filepath.Join(p.dir, "data"), "-U", "roamgate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	p.Start()
	t.Cleanup(func() { p.Kill() })
	return p
}

func postgresBin(t testing.TB) string {
	t.Helper()
	places, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatal(err)
	}
	if len(places) > 0 {
		return filepath.Dir(places[len(places)-1])
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path)
	}
	if os.Getenv("ROAMGATE_INTEGRATION") == "1" {
		t.Fatal("PostgreSQL is not installed")
	}
	t.Skip("PostgreSQL is not installed: run `make test`")
	return ""
}

// unprivileged: PostgreSQL refuses to run as root.
func (p *Server) unprivileged() {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		p.t.Fatal(err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chown(p.dir, int(uid), int(gid)); err != nil {
		p.t.Fatal(err)
	}
	p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *Server) tool(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, name), args...)
	c.Dir, c.SysProcAttr = p.dir, p.attr
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	return c
}

// Dump a database into a file, as an operator would.
func (p *Server) Dump(database, name string) {
	p.t.Helper()
	p.run("pg_dump", "-h", p.dir, "-U", "roamgate", "-Fc", "-f", filepath.Join(p.dir, name), database)
}

// Restore what was dumped into a database that is empty.
func (p *Server) Restore(name, database string) {
	p.t.Helper()
	p.run("pg_restore", "-h", p.dir, "-U", "roamgate", "-d", database, "--exit-on-error", filepath.Join(p.dir, name))
}

func (p *Server) run(name string, args ...string) {
	p.t.Helper()
	if out, err := p.tool(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// watched ends the program when its standard input does, which is also when the
// test process dies, in whatever way. SIGQUIT ends the children of PostgreSQL
// too, without a checkpoint; SIGKILL would leave them and their shared memory.
func (p *Server) watched(name string, args ...string) *exec.Cmd {
	const script = `"$0" "$@" & read -r _; kill -QUIT $!; wait $!`
	c := p.tool(name)
	c.Path, c.Args = "/bin/sh", append([]string{"sh", "-c", script, c.Path}, args...)
	return c
}

// Start the server, again after Kill, and wait until it answers.
func (p *Server) Start() {
	p.t.Helper()
	var log bytes.Buffer
	// A killed process loses nothing that the kernel has: no need to wait for
	// the disk.
	p.command = p.watched("postgres", "-D", filepath.Join(p.dir, "data"), "-k", p.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=150", "-c", "shared_buffers=32MB")
	p.command.Stderr = &log
	life, err := p.command.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.life = life
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	db, err := sql.Open("pgx", p.Name("postgres"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			p.Kill()
			p.t.Fatalf("PostgreSQL doesn't answer: %v\n%s", err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill the server without a warning, as a crash does; it may be started again.
func (p *Server) Kill() {
	if p.command == nil {
		return
	}
	_ = p.life.Close()
	_ = p.command.Wait()
	p.command = nil
}

// KillHard ends the server's first process by SIGKILL, and waits until its
// children have noticed. It may be started again.
func (p *Server) KillHard() {
	p.t.Helper()
	data := filepath.Join(p.dir, "data")
	if err := syscall.Kill(p.first(), syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	// Those of its folder; they hold its shared memory.
	for deadline := time.Now().Add(time.Minute); len(p.processes(data)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("children of PostgreSQL outlive it")
		}
	}
	p.Kill()
}

// Name is the data source name of a database.
func (p *Server) Name(database string) string {
	return fmt.Sprintf("host=%s user=roamgate dbname=%s", p.dir, database)
}

// Database makes a new database and opens it as a server does.
func (p *Server) Database(t testing.TB) *sql.DB {
	t.Helper()
	return p.Open(t, p.Create(t))
}

// Create a new database and say its name.
func (p *Server) Create(t testing.TB) string {
	t.Helper()
	db := p.Open(t, "postgres")
	defer db.Close()
	name := fmt.Sprintf("test%d", p.databases.Add(1))
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return name
}

// Settle waits until nobody is connected to a database. A client that was killed
// leaves sessions that still do what they were told last, be it COMMIT.
func (p *Server) Settle(t testing.TB, database string) {
	t.Helper()
	db := p.Open(t, "postgres")
	defer db.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var n int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", database).Scan(&n)
		switch {
		case err != nil:
			t.Fatal(err)
		case n == 0:
			return
		case time.Now().After(deadline):
			t.Fatalf("%d are still connected to %s", n, database)
		}
	}
}

// Open a database; it is closed at the end of the test.
func (p *Server) Open(t testing.TB, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", p.Name(database))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	t.Cleanup(func() { db.Close() })
	return db
}
