package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is written as 30s or 5m.
type Duration time.Duration

// UnmarshalText reads a duration; negative ones don't exist here.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = errors.New("negative")
	}
	*d = Duration(v)
	return err
}

// MarshalText writes what String returns.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is 5m rather than 5m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (Duration) expected() string { return "a duration such as 500ms, 30s or 5m" }

// Bytes is a number of octets, written with KiB, MiB, GiB or TiB.
type Bytes uint64

var byteUnits = []struct {
	suffix string
	shift  uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}}

// UnmarshalText reads "64GiB" or a plain number of octets.
func (v *Bytes) UnmarshalText(b []byte) error {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(string(b), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
		if err == nil && n > math.MaxUint64>>u.shift {
			err = strconv.ErrRange
		}
		*v = Bytes(n << u.shift)
		return err
	}
	return nil
}

// MarshalText uses the largest unit that is exact.
func (v Bytes) MarshalText() ([]byte, error) {
	for _, u := range byteUnits {
		if n := uint64(v) >> u.shift; n > 0 && n<<u.shift == uint64(v) {
			return fmt.Appendf(nil, "%d%s", n, u.suffix), nil
		}
	}
	return []byte("0"), nil
}

func (Bytes) expected() string { return "a number of bytes such as 512MiB or 64GiB, or 0" }

// Level of the log.
type Level slog.Level

var levels = []struct {
	name  string
	level slog.Level
}{{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError}}

// UnmarshalText reads a level's name.
func (l *Level) UnmarshalText(b []byte) error {
	for _, v := range levels {
		if v.name == string(b) {
			*l = Level(v.level)
			return nil
		}
	}
	return errors.New("unknown level")
}

// MarshalText writes a level's name.
func (l Level) MarshalText() ([]byte, error) {
	for _, v := range levels {
		if v.level == slog.Level(l) {
			return []byte(v.name), nil
		}
	}
	return nil, fmt.Errorf("unknown level %d", int(l))
}

func (Level) expected() string { return "one of debug, info, warn, error" }

// LogFormat is text or json.
type LogFormat string

// Formats of the log.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

func (LogFormat) names() []string { return []string{"text", "json"} }

// StaleCRL is a policy for revocation lists and OCSP responses that are past
// their nextUpdate.
type StaleCRL string

// Policies.
const (
	StaleCRLAdmit  StaleCRL = "admit"
	StaleCRLRefuse StaleCRL = "refuse"
)

func (StaleCRL) names() []string { return []string{"admit", "refuse"} }

// Backend is who forwards packets.
type Backend string

// Backends.
const (
	BackendAuto      Backend = "auto"
	BackendUserspace Backend = "userspace"
	BackendXFRM      Backend = "xfrm"
)

func (Backend) names() []string { return []string{"auto", "userspace", "xfrm"} }

// Listen is an address and a port, or "off".
type Listen struct{ netip.AddrPort }

// UnmarshalText reads 127.0.0.1:9500, [::1]:9500 or off.
func (l *Listen) UnmarshalText(b []byte) error {
	if string(b) == "off" {
		l.AddrPort = netip.AddrPort{}
		return nil
	}
	return l.AddrPort.UnmarshalText(b)
}

// MarshalText writes what UnmarshalText reads.
func (l Listen) MarshalText() ([]byte, error) {
	if !l.IsValid() {
		return []byte("off"), nil
	}
	return l.AddrPort.MarshalText()
}

func (Listen) expected() string { return "ADDRESS:PORT such as 127.0.0.1:9500, or off" }

// OID is an object identifier in dotted decimal.
type OID struct{ x509.OID }

func (OID) expected() string { return "an object identifier such as 1.3.6.1.4.1.311.21.8" }
