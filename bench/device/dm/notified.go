package dm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// ErrIgnored: a notification that begins no session.
var ErrIgnored = errors.New("notification ignored")

// Notified takes a notification and runs the session that its server wants, with
// Alert 1200 and its SessionID (OMA-TS-DM_Notification-V1_2 section 6.2). Errors:
// ErrIgnored for octets that aren't our server's, and for the notification that
// began the last session so; those of Session.
func (c *Client) Notified(ctx context.Context, octets []byte) (Summary, error) {
	n, err := alert.Parse(octets)
	if err != nil {
		return Summary{}, fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	a := c.cfg.Account
	if n.Server != a.ServerName || len(a.ServerPassword) == 0 {
		return Summary{}, fmt.Errorf("%w: server %q", ErrIgnored, n.Server)
	}
	if _, err := alert.Verify(octets, a.ServerPassword, a.ServerNonce); err != nil {
		return Summary{}, fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	id := strconv.Itoa(int(n.SessionID))
	if id == c.notified {
		return Summary{}, fmt.Errorf("%w: SessionID %s again", ErrIgnored, id)
	}
	summary, err := c.session(ctx, id, syncml.AlertServerInitiated)
	if err == nil {
		c.notified = id
	}
	return summary, err
}

// Serve takes notifications from a socket, one after the other, until it is
// closed. heard gets what became of each.
func (c *Client) Serve(ctx context.Context, conn net.PacketConn, heard func(Summary, error)) error {
	octets := make([]byte, alert.MaxNotification+1)
	for {
		n, _, err := conn.ReadFrom(octets)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		heard(c.Notified(ctx, octets[:n]))
	}
}
