package pki

import (
	"net/netip"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/command"
)

// role is who else than a device has a certificate.
type role struct {
	profile ca.Profile
	use     string
	short   string
	long    string
	example string
	// base of the two files, .pem and .key.
	base string
	days int
}

var roles = []role{{
	profile: ca.Gateway, use: "gateway NAME-OR-ADDRESS...", base: "gateway", days: int(ca.GatewayLifetime / (24 * time.Hour)),
	short: "Issue the certificate of a gateway",
	long: `Issue the certificate of a gateway, for every host name and address by which
devices reach it.`,
	example: `  gatewayd pki gateway vpn.example.org 203.0.113.7
  gatewayd pki gateway vpn.example.org --key rsa-3072 --out ./gw2`,
}, {
	profile: ca.Server, use: "server NAME-OR-ADDRESS...", base: "enrollment", days: int(ca.GatewayLifetime / (24 * time.Hour)),
	short: "Issue the certificate of an enrollment server",
	long: `Issue the TLS certificate of an enrollment server, for every host name and address
by which devices and administrators reach it. Browsers warn of it unless they
know this CA.`,
	example: `  gatewayd pki server enroll.example.org 203.0.113.8`,
}, {
	profile: ca.Peer, use: "peer NAME-OR-ADDRESS...", base: "instance", days: int(ca.GatewayLifetime / (24 * time.Hour)),
	short: "Issue the certificate by which other instances know this one",
	long: `Issue the certificate with which the enrollment servers of several installations
ask each other for requests.`,
	example: `  gatewayd pki peer enroll01.inside.example.org`,
}, {
	profile: ca.Admin, use: "admin NAME", base: "admin", days: int(ca.AdminLifetime / (24 * time.Hour)),
	short: "Issue the certificate of an administrator",
	long: `Issue the certificate with which an administrator talks to the enrollment server.
Whoever has its key may enroll and revoke.`,
	example: `  gatewayd pki admin alice --out ./alice`,
}, {
	profile: ca.Manager, use: "manager NAME", base: "manager", days: int(ca.AdminLifetime / (24 * time.Hour)),
	short: "Issue the certificate of a manager",
	long: `Issue the certificate with which a manager configures gateways. Whoever has its
key says who gets in.`,
	example: `  gatewayd pki manager manager-1 --out ./manager`,
}}

// named says whether whoever has a profile has one name and not those of hosts.
func named(p ca.Profile) bool { return p == ca.Admin || p == ca.Manager }

func (s *state) roleCommand(r role) *cobra.Command {
	var (
		key, out string
		days     int
		force    bool
	)
	c := &cobra.Command{
		Use: r.use, Short: r.short, Long: r.long, Example: r.example,
		Args: func(_ *cobra.Command, args []string) error {
			if named(r.profile) && len(args) != 1 {
				return command.Usagef("want one name, got %d", len(args))
			}
			if len(args) == 0 {
				return command.Usagef("a %s needs a host name or an address", r.profile)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			request := Named(r.profile, args)
			private, err := prepare(&request, key, days)
			if err != nil {
				return err
			}
			base := filepath.Join(out, r.base)
			if !force {
				if err := checkAbsent(base+".pem", base+".key"); err != nil {
					return err
				}
			}
			a, err := s.open(c)
			if err != nil {
				return err
			}
			defer a.Close()
			certificate, err := a.Issue(time.Now(), request)
			if err != nil {
				return err
			}
			if err := writePair(a, base, certificate, private, force); err != nil {
				return err
			}
			return s.printIssued(c, certificate, base+".pem", base+".key")
		},
	}
	c.Flags().StringVar(&key, "key", string(ca.KeyAlgorithms[0]), "kind of key: "+keyAlgorithms())
	c.Flags().StringVar(&out, "out", s.configDir, "directory for "+r.base+".pem and "+r.base+".key")
	c.Flags().IntVar(&days, "days", r.days, "lifetime in days")
	c.Flags().BoolVar(&force, "force", false, "overwrite files")
	return c
}

// Named makes a request for names: host names and addresses, or the one of an
// administrator or manager.
func Named(profile ca.Profile, names []string) ca.Request {
	request := ca.Request{Profile: profile}
	for _, name := range names {
		if named(profile) {
			request.Name = name
		} else if address, err := netip.ParseAddr(name); err == nil {
			request.Addresses = append(request.Addresses, address)
		} else {
			request.DNSNames = append(request.DNSNames, name)
		}
	}
	return request
}

// BaseName of the two files of a certificate, without .pem and .key.
func BaseName(profile ca.Profile) string {
	for _, r := range roles {
		if r.profile == profile {
			return r.base
		}
	}
	return string(profile)
}
