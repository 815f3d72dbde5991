package session

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A configuration that can't be used names the part, at the start and at a
// reload, and changes nothing.
func TestConfigNamesWhatIsWrong(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		good := Config{Settings: *w.server.settings.Load(), Backend: w.net, Leases: w.leases}
		if _, err := New(good); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*Config){
			"Backend":     func(c *Config) { c.Backend = nil },
			"Leases":      func(c *Config) { c.Leases = nil },
			"Shards":      func(c *Config) { c.Shards = 257 },
			"Workers":     func(c *Config) { c.Workers = -1 },
			"MaxSessions": func(c *Config) { c.MaxSessions = -1 },
		} {
			bad := good
			change(&bad)
			if _, err := New(bad); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		before := w.server.settings.Load()
		for name, change := range map[string]func(*Settings){
			"IKE":         func(s *Settings) { s.IKE = nil },
			"IKE.Rand":    func(s *Settings) { c := *s.IKE; c.Rand = nil; s.IKE = &c },
			"Admit":       func(s *Settings) { s.Admit = nil },
			"Liveness":    func(s *Settings) { s.Liveness.Idle = -time.Second },
			"MaxHalfOpen": func(s *Settings) { s.Gate.MaxHalfOpen = 0 },
		} {
			bad := *before
			change(&bad)
			if err := w.server.Update(bad); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.want("settings", w.server.settings.Load(), before)
	})
}

func TestNewWithoutRandomness(t *testing.T) {
	run(t, options{scripted: true}, func(w *world) {
		for _, enough := range []int{0, 16} {
			cfg := Config{Settings: *w.server.settings.Load(), Backend: w.net, Leases: w.leases}
			ike := *cfg.IKE
			ike.Rand = &goodFor{enough}
			cfg.IKE = &ike
			if _, err := New(cfg); !errors.Is(err, errRand) {
				t.Errorf("with %d octets: %v", enough, err)
			}
		}
	})
}
