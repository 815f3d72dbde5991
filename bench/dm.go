package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/checkin"
	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/wbxml"
)

// dmFlags say which server is loaded, by whom and how.
type dmFlags struct {
	server, serverName, roots string
	vouched                   bool
	sources                   sources
	pid                       int

	identities, ca, caKey, instance, name string
	devices                               uint64

	auth, secret, nonce, syntax string
	full, warmUp                bool
	maxMsgSize                  int

	plan planFlags
	life checkin.Life
	// every and jitter of the schedule; every 0 is none.
	every, jitter time.Duration
}

func dmCommand() *cobra.Command {
	var (
		o output
		f dmFlags
	)
	c := &cobra.Command{
		Use:   "dm",
		Short: "OMA DM sessions over TLS with client certificates: rate and latency",
		Long: `Devices that come to an OMA DM server, ours or anybody's: a TCP connection, TLS
with the device's own certificate, package 1, and what the server wants until
its last package. Each session has a connection of its own.

What a session has to do is the server's: an empty queue is one message each
way. Sessions with and without commands are reported apart. Devices have
` + checkin.Root + `/0 to 15 for Replace; they answer whatever comes.

Closed loop, without --rate: as many as the server can do. Open loop, with
--rate: each session has its time and its latency counts from there, also when
the server was busy with others, as devices would see it.

With --schedule devices live by one: each comes so often, give or take --jitter;
at the beginning each is somewhere between two visits. --speed lets their clocks
go faster. One that fails comes again an interval later.

Devices are a laboratory CA's (--ca), which issues to as many as needed, or
those that were enrolled (--identities): a folder of what ` + "`gatewayd enrollment\njoin`" + ` wrote, or a file of ` + "`bench enroll --keep`" + `.`,
		Example: `  bench dm --server https://127.0.0.1:8443/dm --root root.crt --ca issuing.crt --ca-key issuing.key --devices 1000
  bench dm --server https://127.0.0.1:8443/dm --root root.crt --identities devices.pem --rate 300 --poisson --json dm.json --html dm.html
  bench dm ... --syntax wbxml --full-handshakes
  bench dm ... --auth hmac --secret-file password
  bench dm ... --schedule 8h --devices 100000 --for 10m --server-pid $(pidof gatewayd)`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.every > 0 {
				for _, name := range []string{"rate", "duration", "count", "poisson", "warm-up"} {
					if c.Flags().Changed(name) {
						return fmt.Errorf("%w: devices come by --schedule, there is no --%s", errUsage, name)
					}
				}
			} else {
				for _, name := range []string{"for", "speed", "jitter"} {
					if c.Flags().Changed(name) {
						return fmt.Errorf("%w: --%s belongs to --schedule", errUsage, name)
					}
				}
			}
			fleet, err := f.build(c.Context())
			if err != nil {
				return err
			}
			return o.measure(c, commandLine(c), func(ctx context.Context, r *report.Report, say func(string)) error {
				return f.run(ctx, fleet, r, say)
			})
		},
	}
	o.flags(c)
	l := c.Flags()
	l.StringVar(&f.server, "server", "", "`URL` of the DM server, https (required)")
	l.StringVar(&f.roots, "root", "", "PEM `file` of the CAs that it is trusted by; without it those of the system")
	l.StringVar(&f.serverName, "server-name", "", "`name` in its certificate, if it isn't that of the URL")
	l.IntVar(&f.pid, "server-pid", 0, "its `process` on this machine, to report what it uses")
	l.BoolVar(&f.vouched, "i-own-this-target", false, "the server may be loaded although it is on a network")
	f.sources.flag(l)
	l.StringVar(&f.identities, "identities", "", "`file` or folder with certificates and keys of devices; or:")
	l.StringVar(&f.ca, "ca", "", "PEM `file` of a laboratory's CA, which issues to as many devices as needed")
	l.StringVar(&f.caKey, "ca-key", "", "PEM `file`: its key")
	l.StringVar(&f.instance, "instance-oid", "", "certificate policy of what it issues: the `OID` of the server's instance")
	l.StringVar(&f.name, "name", "bench-%07d", "what devices are called by their number, a `format`")
	l.Uint64Var(&f.devices, "devices", 1000, "how many different devices there are; with --identities all of them, or the first so many")
	l.StringVar(&f.auth, "auth", "certificate", "how devices authenticate: certificate, md5 or hmac; the last two work without a certificate, too")
	l.StringVar(&f.secret, "secret-file", "", "`file` with the password of all accounts, whose names are the devices' (md5, hmac)")
	l.StringVar(&f.nonce, "nonce", "", "first `nonce` in base64; without it the first session of a device is challenged")
	l.StringVar(&f.syntax, "syntax", "xml", "xml or wbxml")
	l.IntVar(&f.maxMsgSize, "max-msg-size", 0, "MaxMsgSize that devices tell, in `octets`")
	l.BoolVar(&f.full, "full-handshakes", false, "each TLS handshake in full; otherwise devices keep a ticket")
	l.BoolVar(&f.warmUp, "warm-up", false, "each device has a session before, which isn't measured: then all have tickets")
	f.plan.flags(c, "sessions")
	l.DurationVar(&f.every, "schedule", 0, "devices come so often, each at its time")
	l.DurationVar(&f.jitter, "jitter", 30*time.Minute, "by which a visit is earlier or later, with --schedule; at most half of that")
	l.DurationVar(&f.life.For, "for", 10*time.Minute, "how long, with --schedule")
	l.Float64Var(&f.life.Speed, "speed", 1, "of the devices' clocks, with --schedule")
	if err := c.MarkFlagRequired("server"); err != nil {
		panic(err)
	}
	return c
}

// build checks the flags, the target before all.
func (f *dmFlags) build(ctx context.Context) (*checkin.Fleet, error) {
	cfg := checkin.Config{URL: f.server, Full: f.full, MaxMsgSize: f.maxMsgSize, Timeout: f.plan.timeout}
	if err := f.target(ctx, &cfg); err != nil {
		return nil, err
	}
	if err := f.who(&cfg); err != nil {
		return nil, err
	}
	if err := f.how(&cfg); err != nil {
		return nil, err
	}
	if _, err := watch(f.pid); err != nil {
		return nil, fmt.Errorf("%w: --server-pid: %w", errUsage, err)
	}
	if f.every > 0 {
		f.life.Schedule = schedule.Default()
		f.life.Schedule.Every, f.life.Schedule.Jitter = f.every, min(f.jitter, f.every/2)
		if err := f.life.Schedule.Validate(); err != nil {
			return nil, fmt.Errorf("%w: --schedule: %w", errUsage, err)
		}
		if f.life.For <= 0 || f.life.Speed <= 0 || f.plan.plan.Concurrency < 1 {
			return nil, fmt.Errorf("%w: --for, --speed and --concurrency must be above 0", errUsage)
		}
		f.life.Concurrency, f.life.Seed = f.plan.plan.Concurrency, f.plan.plan.Seed
	} else if _, err := f.plan.build(); err != nil {
		return nil, err
	}
	allowFiles(uint64(f.plan.plan.Concurrency) + 1024)
	return checkin.New(cfg), nil
}

func (f *dmFlags) target(ctx context.Context, cfg *checkin.Config) error {
	u, err := url.Parse(f.server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("%w: --server %q, want https://HOST[:PORT]/PATH", errUsage, f.server)
	}
	port := uint64(443)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return fmt.Errorf("%w: --server: port %q", errUsage, u.Port())
		}
	}
	if cfg.Address, err = allowed(ctx, u.Hostname(), uint16(port), f.vouched); err != nil {
		return err
	}
	if err := f.sources.check(cfg.Address.Addr()); err != nil {
		return err
	}
	cfg.From = f.sources.source
	if cfg.ServerName = f.serverName; cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	if f.roots != "" {
		if cfg.Roots, _, err = identity.Roots(f.roots); err != nil {
			return err
		}
	}
	return nil
}

// who the devices are.
func (f *dmFlags) who(cfg *checkin.Config) error {
	named := func(n uint64) string { return fmt.Sprintf(f.name, n) }
	if named(0) == named(1) || strings.Contains(named(0), "%!") {
		return fmt.Errorf("%w: --name %q, want a place for the number such as %%07d", errUsage, f.name)
	}
	if f.devices == 0 {
		return fmt.Errorf("%w: --devices: at least 1", errUsage)
	}
	cfg.Devices = f.devices
	var source identity.Source
	switch {
	case f.identities != "" && f.ca == "" && f.caKey == "":
		many, err := identity.LoadAll(f.identities)
		if err != nil {
			return err
		}
		source, cfg.Devices = many, min(f.devices, many.Len())
	case f.ca != "" && f.caKey != "" && f.identities == "":
		var policies []x509.OID
		if f.instance != "" {
			oid, err := x509.ParseOID(f.instance)
			if err != nil {
				return fmt.Errorf("%w: --instance-oid %q: %w", errUsage, f.instance, err)
			}
			policies = append(policies, oid)
		}
		issuer, err := identity.NewIssuer(f.ca, f.caKey, named, policies...)
		if err != nil {
			return err
		}
		source = issuer
	case f.identities == "" && f.ca == "" && f.caKey == "" && f.auth != "certificate":
		cfg.Who = func(n uint64) (string, *tls.Certificate, error) { return named(n), nil, nil }
		return nil
	default:
		return fmt.Errorf("%w: who are the devices? Either --identities, or --ca and --ca-key", errUsage)
	}
	cfg.Who = func(n uint64) (string, *tls.Certificate, error) {
		id, err := source.Identity(n)
		if err != nil {
			return "", nil, err
		}
		return string(id.ID.Data), &tls.Certificate{Certificate: id.Credential.Chain, PrivateKey: id.Credential.Signer}, nil
	}
	return nil
}

// how they speak and authenticate.
func (f *dmFlags) how(cfg *checkin.Config) error {
	syntax, ok := map[string]syncml.Syntax{"xml": syncml.XML, "wbxml": wbxml.WBXML}[f.syntax]
	if !ok {
		return fmt.Errorf("%w: --syntax %q is neither xml nor wbxml", errUsage, f.syntax)
	}
	cfg.Syntax = syntax
	if cfg.Scheme, ok = map[string]session.Scheme{"certificate": session.Certificate, "md5": session.MD5, "hmac": session.HMAC}[f.auth]; !ok {
		return fmt.Errorf("%w: --auth %q is none of certificate, md5, hmac", errUsage, f.auth)
	}
	if (cfg.Scheme == session.Certificate) != (f.secret == "") {
		return fmt.Errorf("%w: --secret-file belongs to --auth md5 and hmac, which need it", errUsage)
	}
	if f.secret != "" {
		text, err := os.ReadFile(f.secret)
		if err != nil {
			return err
		}
		if cfg.Password = bytes.TrimSpace(text); len(cfg.Password) == 0 {
			return fmt.Errorf("%s is empty", f.secret)
		}
	}
	var err error
	if cfg.Nonce, err = base64.StdEncoding.DecodeString(f.nonce); err != nil {
		return fmt.Errorf("%w: --nonce: %w", errUsage, err)
	}
	return nil
}

// errNone: nothing worked, which no figure would show.
var errNone = errors.New("no session came to its end")

func (f *dmFlags) run(ctx context.Context, fleet *checkin.Fleet, r *report.Report, say func(string)) error {
	if f.every == 0 {
		if err := f.prepare(ctx, fleet, say); err != nil {
			return err
		}
	}
	used, err := watch(f.pid)
	if err != nil {
		return err
	}
	result := load.NewResult()
	watching, stop := context.WithCancel(ctx)
	plan := &f.plan.plan
	if f.every > 0 {
		plan = &load.Plan{Duration: f.life.For}
	}
	series := follow(watching, "sessions", result, plan, say)
	began := time.Now()
	var offered time.Duration
	if f.every > 0 {
		offered = f.life.Run(ctx, fleet.Devices(), fleet.Session, result)
	} else {
		offered = plan.Run(ctx, func(ctx context.Context, _ uint64) error { return fleet.Next(ctx) }, result)
		if plan.Rate == 0 {
			offered = time.Since(began) // the last ones count, too
		}
	}
	stop()
	r.Series = append(r.Series, <-series)
	summarize(r, "session", result, offered)
	f.add(r, fleet, result.Done.Load()+result.Failed.Load(), offered)
	if result.Done.Load() == 0 && result.Failed.Load() > 0 {
		r.Notes = append(r.Notes, errNone.Error()+": see the failures")
	}
	return used.reportAs(r, "server's", "session", result.Done.Load())
}

// prepare certificates, and with --warm-up a session of each device.
func (f *dmFlags) prepare(ctx context.Context, fleet *checkin.Fleet, say func(string)) error {
	for n := range fleet.Devices() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fleet.Prepare(n); err != nil {
			return err
		}
		if n%1000 == 999 {
			say(fmt.Sprintf("certificates: %d of %d", n+1, fleet.Devices()))
		}
	}
	if !f.warmUp {
		return nil
	}
	result := load.NewResult()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	plan := load.Plan{Concurrency: f.plan.plan.Concurrency, Count: fleet.Devices(), Grace: f.plan.timeout}
	follow(watching, "sessions before", result, &plan, say)
	plan.Run(ctx, func(ctx context.Context, _ uint64) error { return fleet.Next(ctx) }, result)
	for reason, n := range result.Failures() {
		return fmt.Errorf("warm-up: %d sessions failed: %s", n, reason)
	}
	fleet.Forget()
	return ctx.Err()
}

// add what the sessions were.
func (f *dmFlags) add(r *report.Report, fleet *checkin.Fleet, sessions uint64, offered time.Duration) {
	r.Add("devices", float64(fleet.Devices()), "")
	if f.every > 0 {
		r.Add("sessions due by the schedule", float64(fleet.Devices())/f.every.Seconds()*f.life.Speed, "1/s")
	}
	if sessions == 0 {
		return
	}
	r.Add("messages of the server a session", float64(fleet.Messages.Load())/float64(sessions), "")
	r.Add("commands executed", float64(fleet.Commands.Load()), "")
	r.Add("rate of commands", float64(fleet.Commands.Load())/offered.Seconds(), "1/s")
	connections, resumed := fleet.Connections.Load(), fleet.Resumed.Load()
	r.Add("TLS handshakes in full", float64(connections-resumed), "")
	r.Add("TLS handshakes by a ticket", float64(resumed), "")
	for _, l := range []report.Latency{
		fleet.Connecting.Latency("TCP and TLS"), fleet.Empty.Latency("session without commands, from its beginning"),
		fleet.Working.Latency("session with commands, from its beginning"),
	} {
		if l.Count > 0 {
			r.Latencies = append(r.Latencies, l)
		}
	}
}
