package dm

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// secrets of the accounts that the world has.
type secrets struct{ *world }

func (s secrets) Secret(ctx context.Context, device string) (alert.Secret, error) {
	a, err := s.Account(ctx, device)
	if err != nil || len(a.ServerPassword) == 0 {
		return alert.Secret{}, alert.ErrNoSecret
	}
	clear(a.Password)
	return alert.Secret{Server: a.ServerName, Password: a.ServerPassword, Nonce: a.ServerNonce, Version: syncml.V12}, nil
}

// udp stands for the tunnel: devices have a socket each.
type udp struct {
	conn net.PacketConn
	mu   sync.Mutex
	to   map[string]net.Addr
	sent [][]byte
}

func (u *udp) Name() string { return "udp" }

func (u *udp) Deliver(_ context.Context, device string, octets []byte) alert.Result {
	u.mu.Lock()
	defer u.mu.Unlock()
	to := u.to[device]
	if to == nil {
		return alert.Unreachable
	}
	if _, err := u.conn.WriteTo(octets, to); err != nil {
		return alert.Failed
	}
	u.sent = append(u.sent, append([]byte(nil), octets...))
	return alert.Sent
}

func (u *udp) connect(device string, to net.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.to[device] = to
}

func listen(t *testing.T) net.PacketConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// heard is what became of one notification.
type heard struct {
	Summary
	err error
}

// A command waits, and the device is away; it connects, is alerted, and opens
// the session that it was asked for. Twice, so that the nonce is another one;
// then with nonces that have come apart.
func TestAlerted(t *testing.T) {
	var mu sync.Mutex
	var said []string // what devices said first
	var alerter *alert.Alerter
	w := newWorld(t, func(c *server.Config) {
		c.Seen = func(device string, _ time.Time) { alerter.Contacted(device) }
		c.Trace = func(m server.Traced) {
			mu.Lock()
			defer mu.Unlock()
			if s := string(m.Octets); !m.Sent && strings.Contains(s, "<MsgID>1</MsgID>") {
				said = append(said, s)
			}
		}
	})
	client, cfg := w.device(t, "phone", func(c *Config) { c.Account = accounts["md5 both"]() })
	channel := &udp{conn: listen(t), to: map[string]net.Addr{}}
	alerter = alert.New(alert.Config{
		Secrets: secrets{w}, Channels: []alert.Channel{channel}, UI: alert.Background,
		Tries: 3, First: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { alerter.Run(ctx) })

	phone := listen(t)
	results := make(chan heard, 64)
	group.Go(func() {
		if err := client.Serve(ctx, phone, func(s Summary, err error) { results <- heard{s, err} }); err != nil {
			t.Error(err)
		}
	})
	defer phone.Close()

	for round, id := range []string{"first", "second", "after a restore"} {
		mu.Lock()
		said = nil
		mu.Unlock()
		if round == 2 {
			// The server's database was restored: its nonce is of long ago.
			if err := w.ServerNonce(ctx, "phone", []byte("long ago")); err != nil {
				t.Fatal(err)
			}
		}
		w.Put("phone", sessiontest.Task(id, session.Idempotent, "./Settings/A", id))
		for range 100 {
			if err := alerter.Wake("phone"); err != nil {
				t.Fatal(err)
			}
		}
		channel.connect("phone", phone.LocalAddr())
		alerter.Connected("phone")
		var asked *alert.Notification
		for asked == nil {
			h := <-results
			if errors.Is(h.err, ErrIgnored) {
				continue // a copy, or one that couldn't be verified
			}
			if h.err != nil {
				t.Fatal(h.err)
			}
			channel.mu.Lock()
			n, err := alert.Parse(channel.sent[len(channel.sent)-1])
			channel.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			asked = n
		}
		w.answered(t, "phone", id, 200)
		if got := value(t, cfg.Tree, "./Settings/A"); got != id {
			t.Errorf("./Settings/A is %q", got)
		}
		mu.Lock()
		if len(said) == 0 || !strings.Contains(said[0], "<Data>1200</Data>") ||
			!strings.Contains(said[0], "<SessionID>"+client.notified+"</SessionID>") || client.notified == "0" {
			t.Errorf("round %s, session %d asked for: %q", id, asked.SessionID, said)
		}
		mu.Unlock()
		if s := alerter.Stats(); s.Waiting+s.Away+s.Silent != 0 || s.Came != uint64(round+1) {
			t.Errorf("round %s: %+v", id, s)
		}
	}
}

// What isn't our server's begins nothing, and neither does a second copy.
func TestNotificationsIgnored(t *testing.T) {
	w := newWorld(t, nil)
	client, cfg := w.device(t, "phone", func(c *Config) { c.Account = accounts["md5 both"]() })
	n := alert.Notification{Version: syncml.V12, Initiator: alert.ByServer, SessionID: 77, Server: "server"}
	sign := func(server, password string, nonce []byte) []byte {
		n := n
		n.Server = server
		octets, err := n.Append(nil, []byte(password), nonce)
		if err != nil {
			t.Fatal(err)
		}
		return octets
	}
	good := sign("server", "secret", cfg.Account.ServerNonce)
	for name, octets := range map[string][]byte{
		"nothing":            nil,
		"noise":              []byte(strings.Repeat("x", 60)),
		"another server":     sign("serves", "secret", cfg.Account.ServerNonce),
		"another password":   sign("server", "Secret", cfg.Account.ServerNonce),
		"a nonce of old":     sign("server", "secret", []byte("old")),
		"cut off":            good[:len(good)-1],
		"something appended": append(append([]byte(nil), good...), 0),
	} {
		if s, err := client.Notified(t.Context(), octets); !errors.Is(err, ErrIgnored) || s.Messages > 0 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := client.Notified(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, octets := range map[string][]byte{
		"a copy, whose nonce is used": good,
		"a copy with the retry nonce": sign("server", "secret", alert.RetryNonce),
	} {
		if _, err := client.Notified(t.Context(), octets); !errors.Is(err, ErrIgnored) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
