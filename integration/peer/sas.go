package peer

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// SA is an IKE SA as the client sees it.
type SA struct {
	// State in strongSwan's words; "ESTABLISHED" when it is up.
	State string
	// InitiatorSPI and ResponderSPI in hexadecimal.
	InitiatorSPI, ResponderSPI string
	LocalID, RemoteID          string
	// VirtualIPs that the gateway assigned.
	VirtualIPs []netip.Addr
	// Algorithms such as "AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519".
	Algorithms string
	Children   []Child
}

// Child is a Child SA as the client sees it.
type Child struct {
	// Name in the configuration, and the SPIs in hexadecimal.
	Name, SPIIn, SPIOut string
	// State in strongSwan's words; "INSTALLED" when it carries traffic.
	State string
	// Algorithms such as "AES_GCM_16-128", "AES_GCM_16-128/ESN" or
	// "AES_CBC-128/HMAC_SHA2_256_128".
	Algorithms string
	// Encap: ESP goes in UDP.
	Encap                 bool
	BytesIn, BytesOut     uint64
	PacketsIn, PacketsOut uint64
	// Local and Remote traffic selectors after narrowing.
	Local, Remote []string
}

// SAs lists the client's IKE SAs.
func (c *Charon) SAs() ([]SA, error) {
	v, err := dialVICI(c.socket())
	if err != nil {
		return nil, err
	}
	defer v.Close()
	events, err := v.stream("list-sas", "list-sa")
	if err != nil {
		return nil, fmt.Errorf("listing SAs: %w", err)
	}
	var sas []SA
	for _, event := range events {
		for _, name := range event.keys {
			sas = append(sas, parseSA(event.section(name)))
		}
	}
	return sas, nil
}

func parseSA(s section) SA {
	sa := SA{
		State:        s.text("state"),
		InitiatorSPI: s.text("initiator-spi"),
		ResponderSPI: s.text("responder-spi"),
		LocalID:      s.text("local-id"),
		RemoteID:     s.text("remote-id"),
		Algorithms:   algorithms(s, "prf-alg", "dh-group"),
	}
	for _, text := range s.list("local-vips") {
		if a, err := netip.ParseAddr(text); err == nil {
			sa.VirtualIPs = append(sa.VirtualIPs, a)
		}
	}
	children := s.section("child-sas")
	for _, name := range children.keys {
		c := children.section(name)
		sa.Children = append(sa.Children, Child{
			Name:       c.text("name"),
			SPIIn:      c.text("spi-in"),
			SPIOut:     c.text("spi-out"),
			State:      c.text("state"),
			Algorithms: algorithms(c, "dh-group") + extended(c),
			Encap:      c.text("encap") == "yes",
			BytesIn:    number(c.text("bytes-in")),
			BytesOut:   number(c.text("bytes-out")),
			PacketsIn:  number(c.text("packets-in")),
			PacketsOut: number(c.text("packets-out")),
			Local:      c.list("local-ts"),
			Remote:     c.list("remote-ts"),
		})
	}
	return sa
}

func algorithms(s section, more ...string) string {
	encryption := s.text("encr-alg")
	if bits := s.text("encr-keysize"); bits != "" {
		encryption += "-" + bits
	}
	parts := []string{encryption}
	for _, key := range append([]string{"integ-alg"}, more...) {
		if v := s.text(key); v != "" {
			parts = append(parts, v)
		}
	}
	return strings.Join(parts, "/")
}

// extended is what a Child SA with extended sequence numbers ends with.
func extended(s section) string {
	if s.text("esn") == "1" {
		return "/ESN"
	}
	return ""
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// SA returns the one established IKE SA with one installed Child SA; anything
// else is an error that says what there is.
func (c *Charon) SA() (SA, error) {
	sas, err := c.SAs()
	if err != nil {
		return SA{}, err
	}
	if len(sas) != 1 || sas[0].State != "ESTABLISHED" || len(sas[0].Children) != 1 {
		return SA{}, fmt.Errorf("not one established SA with one child: %+v", sas)
	}
	return sas[0], nil
}

// Installed are the Child SAs that carry traffic; those that were rekeyed stay
// in the list for some seconds.
func (s SA) Installed() []Child {
	var out []Child
	for _, c := range s.Children {
		if c.State == "INSTALLED" {
			out = append(out, c)
		}
	}
	return out
}

// VirtualIP is the address that the gateway assigned.
func (c *Charon) VirtualIP() (netip.Addr, error) {
	sa, err := c.SA()
	if err != nil {
		return netip.Addr{}, err
	}
	if len(sa.VirtualIPs) != 1 {
		return netip.Addr{}, fmt.Errorf("not one virtual IP: %v", sa.VirtualIPs)
	}
	return sa.VirtualIPs[0], nil
}
