package gate

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// Config bounds what strangers can make the gateway hold.
//
// Cookies prove that a source can receive. They are asked for below the
// maximum, so that forged sources use up at most the lower number: neither the
// rest nor the share of somebody's prefix can be taken from afar.
type Config struct {
	// MaxHalfOpen is how many half-open IKE SAs there may be.
	MaxHalfOpen int
	// CookieAt is from how many half-open IKE SAs on each new one has to bring
	// a cookie; zero means always.
	CookieAt int
	// MaxHalfOpenPrefix and CookieAtPrefix are the same for each source prefix,
	// an IPv4 /24 or an IPv6 /48, the most that one site gets (RFC 6177). Of an
	// IPv6 /48 each /64 has a quarter, rounded up. Carriers put many devices
	// behind one address.
	MaxHalfOpenPrefix, CookieAtPrefix int
	// AnswersPerSecond bounds unprotected answers, of each kind for itself:
	// INVALID_MAJOR_VERSION, 36 octets to 28 or more, and INVALID_SPI, 40 octets
	// to 8 or more. COOKIE needs no bound: with 45 octets it is shorter than
	// what it answers, 48 or more. Crash tokens have their own; 0 stops them too.
	AnswersPerSecond int
}

// DefaultConfig suits a gateway of some ten thousand devices.
func DefaultConfig() Config {
	return Config{
		MaxHalfOpen: 8192, CookieAt: 1024,
		MaxHalfOpenPrefix: 8192 / 16, CookieAtPrefix: 128,
		AnswersPerSecond: 10,
	}
}

// Validate names the first value that can't be.
func (c *Config) Validate() error {
	switch {
	case c.MaxHalfOpen < 1:
		return fmt.Errorf("%w: MaxHalfOpen is %d, must be positive", ErrConfig, c.MaxHalfOpen)
	case c.CookieAt < 0 || c.CookieAt >= c.MaxHalfOpen:
		return fmt.Errorf("%w: CookieAt is %d, must be 0 to %d", ErrConfig, c.CookieAt, c.MaxHalfOpen-1)
	case c.MaxHalfOpenPrefix < 1 || c.MaxHalfOpenPrefix > c.MaxHalfOpen:
		return fmt.Errorf("%w: MaxHalfOpenPrefix is %d, must be 1 to %d", ErrConfig, c.MaxHalfOpenPrefix, c.MaxHalfOpen)
	case c.CookieAtPrefix < 0 || c.CookieAtPrefix >= c.MaxHalfOpenPrefix:
		return fmt.Errorf("%w: CookieAtPrefix is %d, must be 0 to %d", ErrConfig, c.CookieAtPrefix, c.MaxHalfOpenPrefix-1)
	case c.AnswersPerSecond < 0:
		return fmt.Errorf("%w: AnswersPerSecond is %d, must not be negative", ErrConfig, c.AnswersPerSecond)
	}
	return nil
}

// Verdict about a message.
type Verdict uint8

const (
	// Drop the message without an answer.
	Drop Verdict = iota
	// Pass the message on.
	Pass
	// Answer the message with Result.Answer and forget it.
	Answer
)

// Result of a check.
type Result struct {
	Verdict Verdict
	// Reason of Drop and Answer; ReasonNone with Pass.
	Reason Reason
	// Header is set with Pass, and where a cookie is asked for.
	Header Header
	// Answer lies in the buffer given to Check.
	Answer []byte
}

// Gate is safe for concurrent use.
type Gate struct {
	secret   Secret
	cfg      atomic.Pointer[Config]
	answers  atomic.Pointer[answers]
	keys     atomic.Pointer[cookieKeys]
	halfOpen halfOpen
	waiting  [2]halfOpen // counted like those that are half-open; the second brought a ticket
	pressed  atomic.Bool
	asks     atomic.Int64 // until when everybody is asked for a cookie, in ns since 1970
}

// cookieHold is how long everybody is asked for a cookie after it was necessary.
// A client that was asked goes on with another message: if the first one, repeated
// meanwhile, were let in after all, its sender's AUTH wouldn't be for it. What it
// repeated before it was asked may wait to be received for seconds in a storm.
const cookieHold = 10 * time.Second

// answers are the budgets of what goes to strangers; each kind has its own, so
// that junk of one doesn't silence the other.
type answers struct{ version, spi, crash Rate }

// New makes a gate. The same secret lets cookies outlive a restart and be made
// elsewhere.
func New(cfg Config, secret Secret) (*Gate, error) {
	g := &Gate{
		secret:   secret,
		halfOpen: halfOpen{prefix: make(map[netip.Prefix]int)},
	}
	for i := range g.waiting {
		g.waiting[i].prefix = make(map[netip.Prefix]int)
	}
	if err := g.Update(cfg); err != nil {
		return nil, err
	}
	return g, nil
}

// Update replaces the bounds; what is half-open stays counted. With an error
// nothing has changed.
func (g *Gate) Update(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	g.cfg.Store(&cfg)
	a := &answers{version: Rate{PerSecond: cfg.AnswersPerSecond}, spi: Rate{PerSecond: cfg.AnswersPerSecond}}
	if cfg.AnswersPerSecond > 0 {
		a.crash.PerSecond = crashAnswersPerSecond
	}
	g.answers.Store(a)
	return nil
}

// Check decides about a datagram from remote. It looks at state only for an
// IKE_SA_INIT, and changes none: whoever makes an IKE SA calls Open. An answer
// is written over buffer, which is long enough from 64 octets on.
func (g *Gate) Check(now time.Time, remote netip.AddrPort, data, buffer []byte) Result {
	h, ok := readHeader(data)
	if !ok {
		return Result{Reason: ReasonShort}
	}
	if major := h.version >> 4; major != version2>>4 {
		return g.otherVersion(now, &h, buffer)
	}
	if r := h.check(len(data)); r != ReasonNone {
		return Result{Reason: r}
	}
	if h.Init {
		if res := g.checkInit(now, remote, &h, data, buffer); res.Verdict != Pass {
			return res
		}
	}
	return Result{Verdict: Pass, Header: h}
}

// otherVersion answers requests of a higher major version with the one that is
// spoken here (RFC 7296 section 2.5).
func (g *Gate) otherVersion(now time.Time, h *Header, buffer []byte) Result {
	if h.version>>4 < version2>>4 || h.flags&flagResponse != 0 {
		return Result{Reason: ReasonOldVersion}
	}
	if !g.answers.Load().version.Allow(now) {
		return Result{Reason: ReasonAnswerRate}
	}
	return Result{
		Verdict: Answer, Reason: ReasonNewVersion,
		Answer: appendResponse(buffer[:0], h, notifyInvalidMajorVersion, nil),
	}
}

// checkInit asks for a cookie below any threshold where the key exchange costs
// much. It treats a wrong cookie like a missing one (RFC 7296 section 2.6).
func (g *Gate) checkInit(now time.Time, remote netip.AddrPort, h *Header, data, buffer []byte) Result {
	parts, reason := scanInit(data, h.first)
	if reason != ReasonNone {
		return Result{Reason: reason}
	}
	needed, everybody := g.cookieNeeded(remote.Addr())
	switch {
	case everybody:
		g.asks.Store(now.Add(cookieHold).UnixNano())
	case now.UnixNano() < g.asks.Load():
		needed = true
	}
	if !parts.expensive && !needed {
		return Result{Verdict: Pass}
	}
	keys := g.keysAt(now)
	reason = ReasonCookieRequired
	if parts.cookie != nil {
		if keys.verify(parts.cookie, remote, h.InitiatorSPI, parts.nonce) {
			return Result{Verdict: Pass}
		}
		reason = ReasonCookieWrong
	}
	var made [cookieLen]byte
	return Result{
		Verdict: Answer, Reason: reason, Header: *h,
		Answer: appendResponse(buffer[:0], h, notifyCookie, keys.append(made[:0], remote, h.InitiatorSPI, parts.nonce)),
	}
}

// Press has everybody asked for a cookie until it is called with false: whoever
// does the work is behind. A cookie costs next to nothing, and makes honest
// clients wait for a round trip and forged ones for ever.
func (g *Gate) Press(on bool) {
	if g.pressed.Load() != on {
		g.pressed.Store(on)
	}
}

// CookieNeeded says whether a stranger from source has to bring a cookie now.
func (g *Gate) CookieNeeded(source netip.Addr) bool {
	needed, _ := g.cookieNeeded(source)
	return needed
}

func (g *Gate) cookieNeeded(source netip.Addr) (needed, everybody bool) {
	if g.pressed.Load() {
		return true, true
	}
	cfg, of := g.cfg.Load(), prefixesOf(source)
	total, site, network := g.halfOpen.count(of)
	for i := range g.waiting {
		t, s, n := g.waiting[i].count(of)
		total, site, network = total+t, site+s, network+n
	}
	everybody = total >= cfg.CookieAt
	return everybody || site >= cfg.CookieAtPrefix || network >= quarter(cfg.CookieAtPrefix), everybody
}

// keysAt computes the keys of a period once; two goroutines that do it at the
// same time get the same.
func (g *Gate) keysAt(now time.Time) *cookieKeys {
	period := cookiePeriodAt(now)
	if k := g.keys.Load(); k != nil && k.period == period {
		return k
	}
	k := newCookieKeys(&g.secret, period)
	g.keys.Store(k)
	return k
}

// Open counts a new half-open IKE SA from source, unless there are too many:
// then it returns why. Each one that was counted is given back by Close when it
// is established or gone.
func (g *Gate) Open(source netip.Addr) Reason {
	cfg := g.cfg.Load()
	return g.halfOpen.open(prefixesOf(source), cfg.MaxHalfOpen, cfg.MaxHalfOpenPrefix)
}

// Full says whether Open would refuse: everybody of the source's site (an IPv4 /24
// or an IPv6 /48), or those of its own network in that (an IPv6 /64).
func (g *Gate) Full(source netip.Addr) (site, network bool) {
	cfg := g.cfg.Load()
	all, ofSite, ofNetwork := g.halfOpen.count(prefixesOf(source))
	site = all >= cfg.MaxHalfOpen || ofSite >= cfg.MaxHalfOpenPrefix
	return site, site || ofNetwork >= quarter(cfg.MaxHalfOpenPrefix)
}

// FullForAll says whether Open would refuse anybody.
func (g *Gate) FullForAll() bool { return g.HalfOpen() >= g.cfg.Load().MaxHalfOpen }

// Close takes back one Open for the same source.
func (g *Gate) Close(source netip.Addr) { g.halfOpen.close(prefixesOf(source)) }

// resumingRoom is how many times as many may wait who brought a ticket: one that is
// junk costs some microseconds, and a fleet that comes back brings good ones.
const resumingRoom = 8

// Wait counts a first message from source that waits for its turn, unless there are
// too many: by the same bounds as those that are half-open, with a ticket by eight
// times these, each for itself. From the same number on, of all of them, a newcomer
// has to bring a cookie. Leave takes it back.
func (g *Gate) Wait(source netip.Addr, ticket bool) Reason {
	cfg := g.cfg.Load()
	if !ticket {
		return g.waiting[0].open(prefixesOf(source), cfg.MaxHalfOpen, cfg.MaxHalfOpenPrefix)
	}
	return g.waiting[1].open(prefixesOf(source), resumingRoom*cfg.MaxHalfOpen, resumingRoom*cfg.MaxHalfOpenPrefix)
}

// Leave takes back one Wait with the same arguments.
func (g *Gate) Leave(source netip.Addr, ticket bool) {
	w := &g.waiting[0]
	if ticket {
		w = &g.waiting[1]
	}
	w.close(prefixesOf(source))
}

// HalfOpen is how many half-open IKE SAs are counted.
func (g *Gate) HalfOpen() int {
	total, _, _ := g.halfOpen.count(prefixes{})
	return total
}

// AllowAnswer takes one from the budget of INVALID_SPI, see [AppendInvalidSPI].
func (g *Gate) AllowAnswer(now time.Time) bool { return g.answers.Load().spi.Allow(now) }
