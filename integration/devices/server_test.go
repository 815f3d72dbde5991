package devices

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // see profileEnv
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/gatewayd/https"
)

// roleEnv tells this program to be a DM server: engine, name of the data source,
// and the folder with its certificates, see laboratory. profileEnv is an address
// on loopback where its profile can be read, if any.
const (
	roleEnv    = "ROAMGATE_TEST_DM_ENGINE"
	nameEnv    = "ROAMGATE_TEST_DM_DATABASE"
	labEnv     = "ROAMGATE_TEST_DM_LABORATORY"
	profileEnv = "ROAMGATE_TEST_DM_PROFILE"
)

func TestMain(m *testing.M) {
	if engine := os.Getenv(roleEnv); engine != "" {
		if err := serve(database.Engine(engine), os.Getenv(nameEnv), laboratory(os.Getenv(labEnv))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve on the socket that was inherited, until standard input ends.
func serve(engine database.Engine, name string, lab laboratory) error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	db, err := sql.Open(databasetest.Driver(engine), name)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shared := database.New(db, engine)
	var s *store.SQL
	for {
		if s, err = store.New(ctx, shared, store.Options{SealKey: storetest.SealKey}); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond): // a database that comes up
		}
	}
	b := store.NewBatch(s, store.BatchOptions{Every: 50 * time.Millisecond})
	go b.Run(context.Background())
	handler := server.New(server.Config{
		Session:  session.Config{Queue: s, Accounts: s, Rand: crand.Reader},
		Identify: identify,
		Seen:     b.Seen,
		Trace: func(m server.Traced) {
			b.Message(store.Message{At: time.Now(), Device: m.Device, Sent: m.Sent, Proven: m.Proven, ContentType: m.ContentType, Octets: m.Octets})
		},
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if at := os.Getenv(profileEnv); at != "" {
		go func() { _ = http.ListenAndServe(at, nil) }() // pprof is in the default mux
	}
	config, err := lab.server()
	if err != nil {
		return err
	}
	return https.New(https.Config{
		Handler: handler, TLS: config, Logger: slog.New(slog.DiscardHandler),
		// One test is all of the devices there are.
		Limits: https.Limits{Connections: 10_000, PerSource: 10_000, Rate: 100_000, Burst: 100_000, Body: 1 << 20, Timeout: 30 * time.Second},
	}).Serve(listener)
}

// identify a device by the name in its certificate, which TLS has verified.
func identify(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", server.ErrRefused
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName, nil
}

// node is a server as a process: the same socket over all its lives, so that
// whoever connects while it is down waits for the next one.
type node struct {
	t        *testing.T
	listener *os.File
	url      string
	address  string
	env      []string

	mu      sync.Mutex
	command *exec.Cmd
	life    io.Closer
}

func newNode(t *testing.T, engine database.Engine, name string, lab laboratory, env ...string) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	env = append([]string{roleEnv + "=" + string(engine), nameEnv + "=" + name, labEnv + "=" + string(lab)}, env...)
	n := &node{t: t, listener: f, address: l.Addr().String(), url: "https://" + l.Addr().String() + "/dm", env: append(os.Environ(), env...)}
	n.start()
	t.Cleanup(func() {
		n.kill()
		f.Close()
	})
	return n
}

func (n *node) start() {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env, c.ExtraFiles, c.Stderr = n.env, []*os.File{n.listener}, os.Stderr
	life, err := c.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.command, n.life = c, life
}

// kill -9.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.command == nil {
		return
	}
	_ = n.command.Process.Kill()
	_ = n.command.Wait()
	_ = n.life.Close()
	n.command = nil
}
