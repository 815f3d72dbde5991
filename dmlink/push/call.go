package push

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/roamgate/roamgate/control/gcm"
)

// Poke a gateway: it is dialled now, or, if it is connected, asked for its state,
// and brought to what was committed, whatever it refused a moment ago. Error:
// ErrUnknown.
func (m *Manager) Poke(gateway string) error {
	l, err := m.link(gateway)
	if err != nil {
		return err
	}
	select {
	case l.poked <- struct{}{}:
	default:
	}
	return nil
}

// End a device's session at a gateway: the one of an ID, in hexadecimal, or any
// if that is empty. Errors: ErrUnknown, ErrAway, ErrNoSession, ErrAnswer, and
// those of the network.
func (m *Manager) End(ctx context.Context, gateway, device, session string) error {
	path := gcm.PathSessions + device
	if session != "" {
		path += "?session=" + url.QueryEscape(session)
	}
	status, err := m.call(ctx, gateway, http.MethodDelete, path, "", nil)
	if status == http.StatusNotFound {
		return fmt.Errorf("%w: %s at %s", ErrNoSession, device, gateway)
	}
	return err
}

// Alert hands a gateway a notification for a device that is connected there. The
// gateway keeps nothing of it but what it takes to repeat it; what became of it
// is an event that has the alert's name. Errors: as those of End.
func (m *Manager) Alert(ctx context.Context, gateway, device, name string, octets []byte) error {
	status, err := m.call(ctx, gateway, http.MethodPost, gcm.PathAlerts+device+"?alert="+url.QueryEscape(name), "application/octet-stream", octets)
	if status == http.StatusNotFound {
		return fmt.Errorf("%w: %s at %s", ErrNoSession, device, gateway)
	}
	return err
}

// Drain a gateway, or take that back, see gcm.Drain. Errors: as those of End.
func (m *Manager) Drain(ctx context.Context, gateway string, d gcm.Drain) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = m.call(ctx, gateway, http.MethodPost, gcm.PathDrain, "application/json", body)
	return err
}

// call a gateway that is connected, over its connection.
func (m *Manager) call(ctx context.Context, gateway, method, path, kind string, body []byte) (int, error) {
	l, err := m.link(gateway)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	c := l.client
	l.mu.Unlock()
	if c == nil {
		return 0, fmt.Errorf("%w: %s", ErrAway, gateway)
	}
	status, answer, err := c.ask(ctx, method, path, kind, body)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("%w: status %d: %.200q", ErrAnswer, status, answer)
	}
	return status, err
}

func (m *Manager) link(gateway string) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.links[gateway]
	if l == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, gateway)
	}
	return l, nil
}
