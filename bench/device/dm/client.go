package dm

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Client of one device. It has one session at a time.
type Client struct {
	cfg      Config
	sessions int
	// notified is the SessionID of the last notification, which other copies of
	// it have as well.
	notified string
}

// New client. The HTTP client should have a cookie jar unless the server sends
// RespURI.
func New(cfg Config) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		cfg.Client = http.DefaultClient
	}
	if cfg.ContentType == "" {
		cfg.ContentType = "application/vnd.syncml.dm+xml"
		if cfg.Syntax.Binary() {
			cfg.ContentType = "application/vnd.syncml.dm+wbxml"
		}
	}
	if cfg.Account == nil {
		cfg.Account = &Account{Scheme: session.Certificate}
	}
	return &Client{cfg: cfg}
}

// maxMessages keeps a session with a wrong server from going on for ever.
const maxMessages = 2000

// run is one session.
type run struct {
	*Client
	id      string
	code    int // of the alert that begins it
	url     string
	msgID   int
	summary Summary

	// queue of what is to be said: statuses, results, alerts.
	queue []syncml.Command
	// sending a large object: the rest of the first command in queue.
	chunk *chunk
	// receiving one.
	object *object
	// asked: the server's package goes on, so ours doesn't end.
	asked bool
	// serverMsg is what the server takes in a message, zero until it says so.
	serverMsg int

	// authenticated: the server has accepted us for the session.
	authenticated bool
	tries         int
	// believed: the server has shown who it is, if it has to.
	believed bool
	doubts   int
	// nextNonce is what our next message tells the server.
	nextNonce []byte
}

// Session runs one from package 1 to its end. The error says why it didn't get
// there.
func (c *Client) Session(ctx context.Context) (Summary, error) {
	c.sessions++
	code := syncml.AlertClientInitiated
	if c.cfg.ServerInitiated {
		code = syncml.AlertServerInitiated
	}
	return c.session(ctx, strconv.Itoa(max(c.cfg.FirstSession, 1)+c.sessions-1), code)
}

// session whose first alert is code.
func (c *Client) session(ctx context.Context, id string, code int) (Summary, error) {
	r := &run{Client: c, id: id, code: code, url: c.cfg.URL}
	r.believed = len(c.cfg.Account.ServerPassword) == 0
	r.initialize()
	for {
		msg, final := r.next()
		if r.nextNonce != nil {
			c.cfg.Account.ServerNonce, r.nextNonce = r.nextNonce, nil
		}
		answer, err := r.exchange(ctx, msg)
		if err != nil {
			return r.summary, err
		}
		r.summary.Messages++
		if n := c.cfg.Faults.VanishAfter; n > 0 && r.summary.Messages >= n {
			return r.summary, ErrVanished
		}
		if n := c.cfg.Faults.AbortAfter; n > 0 && r.summary.Messages == n {
			r.queue = []syncml.Command{&syncml.Alert{Code: syncml.AlertSessionAbort}}
			continue
		}
		over, err := r.take(answer, final)
		if err != nil || over {
			return r.summary, err
		}
		if r.msgID > maxMessages {
			return r.summary, fmt.Errorf("%w: more than %d messages", ErrServer, maxMessages)
		}
	}
}

// initialize says what package 1 has (OMA-TS-DM_Protocol-V1_2_1 section 8.2).
func (r *run) initialize() {
	r.queue = []syncml.Command{&syncml.Alert{Code: r.code}}
	for _, a := range r.cfg.Alerts {
		copied := *a
		r.queue = append(r.queue, &copied)
	}
	info := &syncml.Op{Verb: syncml.Replace}
	for _, name := range []string{"DevId", "Man", "Mod", "DmV", "Lang"} {
		uri := "./DevInfo/" + name
		entries, code := r.get(uri)
		if code != syncml.StatusOK {
			continue
		}
		info.Items = append(info.Items, syncml.Item{Source: syncml.Location{URI: uri}, Data: entries[0].Value.Data, HasData: true})
	}
	if len(info.Items) > 0 {
		r.queue = append(r.queue, info)
	}
}

// exchange one message for its answer.
func (r *run) exchange(ctx context.Context, m *syncml.Message) (*syncml.Message, error) {
	octets, err := r.cfg.Syntax.Append(nil, m.Document())
	if err != nil {
		return nil, err
	}
	answer, mac, err := r.post(ctx, octets)
	if err != nil {
		return nil, err
	}
	if r.cfg.Faults.Repeat {
		again, _, err := r.post(ctx, octets)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(answer, again) {
			return nil, fmt.Errorf("%w: a repeated message got another answer", ErrServer)
		}
	}
	r.summary.Largest = max(r.summary.Largest, len(answer))
	if most := r.cfg.MaxMsgSize; most > 0 && len(answer) > most {
		return nil, fmt.Errorf("%w: %d octets, MaxMsgSize is %d", ErrServer, len(answer), most)
	}
	r.checkMAC(mac, answer)
	doc, err := r.cfg.Syntax.Parse(answer, syncml.Limits{Octets: 16 << 20})
	if err != nil {
		return nil, err
	}
	return syncml.Decode(doc, syncml.Limits{})
}

func (r *run) post(ctx context.Context, octets []byte) (answer []byte, mac string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(octets))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", r.cfg.ContentType)
	req.Header.Set("Accept", r.cfg.ContentType)
	if a := r.cfg.Account; a.Scheme == session.HMAC {
		req.Header.Set(syncml.MACHeader, syncml.NewMAC(a.Name, a.Password, a.Nonce, octets).String())
	}
	res, err := r.cfg.Client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(res.Body, 16<<20)); err != nil {
		return nil, "", err
	}
	if res.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%w: %s: %.100s", ErrStatus, res.Status, bytes.TrimSpace(answer))
	}
	return answer, res.Header.Get(syncml.MACHeader), nil
}

// freshNonce for the server.
func freshNonce() []byte {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	return nonce
}
