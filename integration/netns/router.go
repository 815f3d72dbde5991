package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// routerLink is the router's interface towards the gateway.
const routerLink = "gw"

// Router stands between devices and gateway, and makes the way between them
// as bad as real ones are: address translation, loss, reordering. It needs
// nft(8). A new Router does nothing but forward.
type Router struct {
	*Namespace

	mu       sync.Mutex
	late     *detour
	rejected []string // rules, in the order in which they were added
}

// Masquerade puts all devices behind the router's own addresses (NAPT), with
// source ports from first to last. Called again it is what a restarted or
// overloaded NAT does in mid-session: the mappings are forgotten, and what the
// devices send next comes from other ports if the ranges don't overlap.
func (r *Router) Masquerade(ctx context.Context, first, last uint16) error {
	err := r.nft(ctx, fmt.Sprintf(`table inet nat
delete table inet nat
table inet nat {
	chain leaving {
		type nat hook postrouting priority srcnat
		oifname %q meta l4proto udp masquerade to :%d-%d
		oifname %q masquerade
	}
}
`, routerLink, first, last, routerLink))
	if err != nil {
		return err
	}
	return r.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// Unmasquerade ends the NAT; the mappings are forgotten.
func (r *Router) Unmasquerade(ctx context.Context) error {
	if err := r.nft(ctx, "table inet nat\ndelete table inet nat\n"); err != nil {
		return err
	}
	return r.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// Lose drops percent of the packets that are forwarded, at random.
func (r *Router) Lose(ctx context.Context, percent int) error {
	return r.reject(ctx, fmt.Sprintf("numgen random mod 100 < %d", percent))
}

// LoseFragments drops what IP fragmented, as many networks do. A router that
// masquerades puts fragments together before and sees none.
func (r *Router) LoseFragments(ctx context.Context) error {
	return r.reject(ctx, "ip frag-off & 0x3fff != 0", "exthdr frag exists")
}

func (r *Router) reject(ctx context.Context, what ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected = append(r.rejected, what...)
	var b strings.Builder
	b.WriteString("table inet faults\ndelete table inet faults\ntable inet faults {\n\tchain way {\n\t\ttype filter hook forward priority filter\n")
	for _, rule := range r.rejected {
		b.WriteString("\t\t" + rule + " counter drop\n")
	}
	b.WriteString("\t}\n}\n")
	return r.nft(ctx, b.String())
}

// Lost is how many packets Lose and LoseFragments dropped since the last of
// them was called.
func (r *Router) Lost(ctx context.Context) (int, error) {
	out, err := r.Run(ctx, exec.Command("nft", "-j", "list", "table", "inet", "faults"))
	if err != nil {
		return 0, err
	}
	var listed struct {
		Items []struct {
			Rule struct {
				Expr []struct {
					Counter struct{ Packets int }
				}
			}
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return 0, fmt.Errorf("nft: %w", err)
	}
	lost := 0
	for _, item := range listed.Items {
		for _, e := range item.Rule.Expr {
			lost += e.Counter.Packets
		}
	}
	return lost, nil
}

// Repair ends all faults; a NAT stays.
func (r *Router) Repair(ctx context.Context) error {
	r.mu.Lock()
	r.rejected = nil
	r.mu.Unlock()
	return errors.Join(
		r.punctual(),
		r.nft(ctx, "table inet faults\ndelete table inet faults\ntable inet late\ndelete table inet late\n"),
	)
}

// nft carries out a script as a whole or not at all.
func (r *Router) nft(ctx context.Context, script string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if _, err := r.Run(ctx, cmd); err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	return nil
}
