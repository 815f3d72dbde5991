package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/bench/device/dm"
	"github.com/roamgate/roamgate/dmlink/alert"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
	"github.com/roamgate/roamgate/dmlink/wbxml"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
)

// Nodes of the device that the demo is about.
const (
	cameraNode = "./Vendor/MSFT/Policy/Config/Camera/AllowCamera"
	lockNode   = "./Vendor/MSFT/RemoteLock/Lock"
	wipeNode   = "./Vendor/MSFT/RemoteWipe/doWipe"
)

// phone is the device's side of management: what it was told when it enrolled, its
// tree, its OMA DM client.
type phone struct {
	ns    *netns.Namespace
	dir   string // of what it got
	files peer.Files
	told  struct {
		Management   string `json:"management"`
		ManagementID string `json:"management_id"`
	}
	tree          *tree.Tree
	journal       *dm.Journal
	client        *dm.Client
	alerts        net.PacketConn
	locked, wiped atomic.Bool
	heard         atomic.Int32 // sessions that an alert began
}

func newPhone(ns *netns.Namespace, dir, name string) (p *phone, err error) {
	p = &phone{ns: ns, dir: dir, tree: tree.New(tree.Limits{})}
	for suffix, content := range map[string]*[]byte{".ca.pem": &p.files.CA, ".pem": &p.files.Cert, ".key": &p.files.Key} {
		if *content, err = os.ReadFile(filepath.Join(dir, name+suffix)); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, name+".configuration.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &p.told); err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(p.files.Cert, p.files.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.files.CA)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	if p.journal, err = dm.OpenJournal(filepath.Join(dir, "journal")); err != nil {
		return nil, err
	}
	account := &dm.Account{Scheme: session.Certificate}
	p.plant(name, account)
	p.client = dm.New(dm.Config{
		URL: p.told.Management, Device: name, Server: p.told.ManagementID, Syntax: wbxml.WBXML, Tree: p.tree, Journal: p.journal, Account: account,
		Client: &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}},
			DialContext:     p.dial, DisableKeepAlives: true,
		}},
	})
	return p, nil
}

// plant the device's tree.
func (p *phone) plant(name string, account *dm.Account) {
	now := time.Now()
	put := func(uri, value string) { p.tree.Put(uri, tree.Node{Value: tree.Value{Data: []byte(value)}}, now) }
	for _, v := range [][2]string{{"DevId", name}, {"Man", "Roamgate"}, {"Mod", "demo"}, {"DmV", "1.2"}, {"Lang", "en"}} {
		put("./DevInfo/"+v[0], v[1])
	}
	for _, v := range []string{
		"NumberOfFirstRetries", "IntervalForFirstSetOfRetries", "NumberOfSecondRetries", "IntervalForSecondSetOfRetries",
		"NumberOfRemainingScheduledRetries", "IntervalForRemainingScheduledRetries",
	} {
		put("./Vendor/MSFT/DMClient/Provider/"+p.told.ManagementID+"/Poll/"+v, "0")
	}
	put(cameraNode, "1")
	dm.Bootstrap(p.tree, p.told.ManagementID, p.told.Management, account, now)
	does := func(done *atomic.Bool) tree.Node {
		return tree.Node{Exec: func(time.Time, []byte) int {
			done.Store(true)
			return syncml.StatusOK
		}}
	}
	p.tree.Put(lockNode, does(&p.locked), now)
	p.tree.Put(wipeNode, does(&p.wiped), now)
}

// dial from where the device is: through the tunnel.
func (p *phone) dial(_ context.Context, _, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := p.ns.Dial(to, 10*time.Second)
	if err != nil {
		return nil, err // not a typed nil
	}
	return conn, nil
}

// camera is on or off.
func (p *phone) camera() string {
	u, err := tree.ParseURI(cameraNode)
	if err != nil {
		return err.Error()
	}
	entries, status := p.tree.Get(p.told.ManagementID, u, time.Now())
	if len(entries) != 1 {
		return fmt.Sprintf("status %d", status)
	}
	return string(entries[0].Value.Data)
}

// listen for alerts at its address in the tunnel, until close.
func (p *phone) listen(ctx context.Context, at netip.Addr) error {
	err := p.ns.Do(func() (err error) {
		p.alerts, err = net.ListenPacket("udp", netip.AddrPortFrom(at, alert.PushPort).String())
		return err
	})
	if err != nil {
		return err
	}
	go func() {
		_ = p.client.Serve(ctx, p.alerts, func(_ dm.Summary, err error) {
			if err == nil {
				p.heard.Add(1)
			}
		})
	}()
	return nil
}

func (p *phone) close() error {
	if p.alerts != nil {
		p.alerts.Close()
	}
	err := p.journal.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
