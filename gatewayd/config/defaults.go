package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/gate"
	"github.com/roamgate/roamgate/enrollment/profile"
)

// Where things lie on a system.
const (
	SystemFile       = "/etc/gatewayd/gatewayd.yaml"
	SystemStateDir   = "/var/lib/gatewayd/gateway"
	SystemRuntimeDir = "/run/gatewayd"
)

// fragmentSize fits into what every IPv6 path carries (RFC 8200 section 5):
// 1,280 octets less those of the IPv6 and UDP headers and the non-ESP marker.
const fragmentSize = 1280 - 40 - 8 - 4

// Default is what holds for keys that the file doesn't set. It is not complete:
// interfaces, addresses, identity, roots and pools have no default.
func Default() *Config {
	g := gate.DefaultConfig()
	return &Config{
		StateDir:   SystemStateDir,
		RuntimeDir: SystemRuntimeDir,
		Log:        Log{Level: Level(slog.LevelInfo), Format: LogText},
		Metrics:    Metrics{Listen{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9500)}},
		Gateway: Gateway{
			Backend:  BackendAuto,
			External: External{Port: 500, NATTPort: 4500},
			Tunnel:   Tunnel{Name: "gatewayd0", PathMTU: 1500, HostRoutes: HostRoutes{Protocol: 201}},
			Trust:    Trust{StaleCRL: StaleCRLRefuse, MaxCertificates: 4},
			IKE: IKE{
				Proposals: mustIKE(
					"aes128gcm16-prfsha256-x25519",
					"aes256gcm16-prfsha384-ecp384",
					"aes128gcm16-prfsha256-ecp256",
					"aes256-sha256-prfsha256-x25519",
					"aes256-sha256-prfsha256-ecp256",
					"aes128-sha256-prfsha256-x25519",
					"aes128-sha256-prfsha256-ecp256",
					"aes256-sha256-prfsha256-modp2048",
					"aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-x25519-ecp256-ecp384-ecp521-modp2048",
					"aes256-aes128-sha256-sha384-sha512-x25519-ecp256-ecp384-ecp521-modp2048",
				),
				HalfOpenTimeout: Duration(30 * time.Second),
				Retransmit:      Retransmit{Timeout: Duration(2 * time.Second), Tries: 5},
				Liveness:        Liveness{Idle: Duration(5 * time.Minute)},
				Parking:         Parking{Idle: Duration(24 * time.Hour)},
				Lifetime:        Lifetime{Rekey: Duration(8 * time.Hour), Jitter: Duration(time.Hour), Hard: Duration(25 * time.Hour)},
				MaxChildren:     8,
				FragmentSize:    fragmentSize,
				MOBIKE:          true,
				CrashDetection:  true,
			},
			ESP: ESP{
				Proposals: mustESP("aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes256-sha256", "aes128-sha256", "aes256-aes128-sha384-sha512"),
				ESN:       true,
				Lifetime:  Lifetime{Rekey: Duration(4 * time.Hour), Jitter: Duration(30 * time.Minute), Hard: Duration(25 * time.Hour)},
				// AES-GCM keeps its margin far beyond; the packet limits stay clear
				// of the end of 32-bit sequence numbers.
				Limits: ESPLimits{
					Soft: Volume{Bytes: 1 << 40, Packets: 3 << 30},
					Hard: Volume{Bytes: 2 << 40, Packets: 7 << 29},
				},
			},
			Resumption: Resumption{
				Enabled: true, Lifetime: Duration(8 * time.Hour), RekeyWithin: Duration(10 * time.Minute),
				Reauthenticate: Duration(7 * 24 * time.Hour), Epoch: 1,
			},
			Limits: Limits{
				Sessions:          20000,
				HalfOpen:          HalfOpen{g.MaxHalfOpen, g.CookieAt},
				HalfOpenPerPrefix: HalfOpen{g.MaxHalfOpenPrefix, g.CookieAtPrefix},
				AnswersPerSecond:  g.AnswersPerSecond,
			},
			Access: Access{Enforce: EnforceAuto},
			Static: Static{UnknownDevices: UnknownAdmit},

			Management: Management{DeviceRoots: DeviceRootsManager, Unreachable: Unreachable{Then: UnreachableAdmit}},
			Guard:      defaultGuard(),
		},
		Enrollment: defaultEnrollment(),
		Manager:    defaultManager(),
		Profile:    Profile{Title: profile.DefaultTitle, Connect: string(profile.Manual)},
	}
}
