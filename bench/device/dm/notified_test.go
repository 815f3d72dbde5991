package dm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/alerter"
	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/server"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/session/sessiontest"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// tasks and accounts that the world has.
type tasks struct{ *world }

func (s tasks) Look(ctx context.Context, device string) (alert.Secret, error) {
	waiting, err := s.Next(ctx, device, nil, 1)
	if err != nil {
		return alert.Secret{}, err
	}
	if len(waiting) == 0 {
		return alert.Secret{}, alert.ErrNothing
	}
	a, err := s.Account(ctx, device)
	if err != nil {
		return alert.Secret{}, err
	}
	clear(a.Password)
	return alert.Secret{Server: a.ServerName, Password: a.ServerPassword, Nonce: a.ServerNonce, Version: syncml.V12}, nil
}

// tunnel is the channel through a gateway, without the manager's connection
// between: the gateway's alerter sends to a device that has a socket on the
// loopback.
type tunnel struct {
	alerter *alerter.Alerter

	mu        sync.Mutex
	connected bool
	device    alerter.Device
	sessions  []uint16 // asked for
}

func (u *tunnel) Name() string { return "tunnel" }

func (u *tunnel) Deliver(_ context.Context, device string, octets []byte) alert.Result {
	if n, err := alert.Parse(octets); err == nil {
		u.mu.Lock()
		u.sessions = append(u.sessions, n.SessionID)
		u.mu.Unlock()
	}
	switch err := u.alerter.Send(device, hex.EncodeToString(octets[:16]), octets); {
	case errors.Is(err, alerter.ErrNotConnected):
		return alert.Unreachable
	case err != nil:
		return alert.Failed
	}
	return alert.Sent
}

func (u *tunnel) lookup(string) (alerter.Device, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.device, u.connected
}

func (u *tunnel) connect(connected bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.connected = connected
}

func (u *tunnel) heard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.device.Heard = time.Now()
}

// askedFor says whether the device was asked for what it said first.
func (u *tunnel) askedFor(message string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Contains(message, "<Data>1200</Data>") && slices.ContainsFunc(u.sessions, func(id uint16) bool {
		return strings.Contains(message, fmt.Sprintf("<SessionID>%d</SessionID>", id))
	})
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A command waits, and the device is away; it connects, is alerted, and opens
// the session that it was asked for. Twice, so that the nonce is another one;
// then with nonces that have come apart.
func TestAlerted(t *testing.T) {
	var mu sync.Mutex
	var said []string // what the device said first
	var wakes *alert.Alerter
	channel := &tunnel{}
	w := newWorld(t, func(c *server.Config) {
		c.Seen = func(device string, _ time.Time) {
			channel.heard()
			wakes.Contacted(device)
		}
		c.Trace = func(m server.Traced) {
			mu.Lock()
			defer mu.Unlock()
			if s := string(m.Octets); !m.Sent && strings.Contains(s, "<MsgID>1</MsgID>") {
				said = append(said, s)
			}
		}
	})
	client, cfg := w.device(t, "phone", func(c *Config) { c.Account = accounts["md5 both"]() })
	phone, gateway := listen(t), listen(t)
	at := phone.LocalAddr().(*net.UDPAddr).AddrPort()
	channel.device.Address = at.Addr()
	channel.alerter = alerter.New(alerter.Config{
		Conn: gateway, Port: at.Port(), Lookup: channel.lookup, Report: func(alerter.Result) {}, First: 20 * time.Millisecond,
	})
	wakes = alert.New(alert.Config{
		Devices: tasks{w}, Channels: []alert.Channel{channel}, UI: alert.Background,
		Tries: 3, First: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	defer phone.Close()
	group.Go(func() { wakes.Run(ctx) })
	group.Go(func() { channel.alerter.Run(ctx) })
	results := make(chan error)
	group.Go(func() {
		err := client.Serve(ctx, phone, func(_ Summary, err error) {
			select {
			case results <- err:
			case <-ctx.Done():
			}
		})
		if err != nil {
			t.Error(err)
		}
	})

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
		channel.connect(false)
		w.Put("phone", sessiontest.Task(id, session.Idempotent, "./Settings/A", id))
		for range 100 {
			if err := wakes.Wake("phone"); err != nil {
				t.Fatal(err)
			}
		}
		channel.connect(true)
		wakes.Connected("phone")
		for done := false; !done; {
			// There are copies, and those that can't be verified; and sessions in
			// which there was nothing to do.
			if err := <-results; err != nil && !errors.Is(err, ErrIgnored) {
				t.Fatal(err)
			}
			o, _ := w.Outcome("phone", id)
			done = o != nil
		}
		w.answered(t, "phone", id, 200)
		if got := value(t, cfg.Tree, "./Settings/A"); got != id {
			t.Errorf("./Settings/A is %q", got)
		}
		mu.Lock()
		if len(said) == 0 || !channel.askedFor(said[0]) {
			t.Errorf("%s: the device wasn't asked for %q", id, said)
		}
		mu.Unlock()
		// Nothing is left of it, soon.
		for s := wakes.Stats(); s.Waiting+s.Away+s.Silent > 0; s = wakes.Stats() {
			select {
			case <-time.After(time.Millisecond):
			case <-results:
			}
		}
	}
	if s := wakes.Stats(); s.Done < 3 || s.Failed > 0 {
		t.Errorf("%+v", s)
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
