package fleet

import (
	"fmt"
	"net/netip"

	"log/slog"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// family as it is in the tables.
func family(a netip.Addr) int64 {
	if a.Is4() {
		return 4
	}
	return 6
}

func address(octets []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(octets)
	if !ok {
		return netip.Addr{}, fmt.Errorf("an address of %d octets", len(octets))
	}
	return a, nil
}

func scanAddress(r database.Row) (netip.Addr, error) {
	var octets []byte
	if err := r.Scan(&octets); err != nil {
		return netip.Addr{}, err
	}
	return address(octets)
}

// span is the addresses of a pool that devices get, both ends included. As with a
// gateway that gives its own, network and broadcast address of IPv4 and the
// subnet-router anycast address of IPv6 (RFC 4291 section 2.6.1) are nobody's.
func span(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr()
	octets := first.AsSlice()
	for i := p.Bits(); i < first.BitLen(); i++ {
		octets[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(octets)
	if first.BitLen()-p.Bits() > 1 {
		first = first.Next()
		if first.Is4() {
			last = last.Prev()
		}
	}
	return first, last
}

// assign addresses to devices that have none, of each family that there are
// pools of. The row of the devices is locked, so nobody else does. Devices for
// which there is none left go without.
func (c *change) assign(names ...string) error {
	for _, fam := range []int64{4, 6} {
		own, err := c.ownPools(fam)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			continue
		}
		lack, err := c.lacking(fam, names)
		if err != nil {
			return err
		}
		for _, from := range []func(int64, []string) ([]string, error){
			c.former, c.rested,
			func(fam int64, lack []string) ([]string, error) { return c.fresh(fam, own, lack) },
		} {
			if len(lack) > 0 {
				if lack, err = from(fam, lack); err != nil {
					return err
				}
			}
		}
		if len(lack) > 0 {
			c.f.Log.Error("no virtual address is left: enlarge the pools",
				slog.Int64("family", fam), slog.Int("devices", len(lack)), slog.String("first", lack[0]))
		}
	}
	return nil
}

type ownPool struct {
	prefix netip.Prefix
	next   netip.Addr // not valid: it has passed the last
}

// ownPools of a family that the manager gives addresses out of.
func (c *change) ownPools(fam int64) ([]ownPool, error) {
	return database.Query(c.Context(), c, func(r database.Row) (p ownPool, err error) {
		var prefix string
		var next []byte
		if err = r.Scan(&prefix, &next); err != nil {
			return p, err
		}
		if p.prefix, err = netip.ParsePrefix(prefix); err == nil && next != nil {
			p.next, err = address(next)
		}
		return p, err
	}, `SELECT prefix, next FROM gcm_pool WHERE family = $1 AND gateway = '' ORDER BY prefix`, fam)
}

func (c *change) lacking(fam int64, names []string) ([]string, error) {
	have, err := database.Query(c.Context(), c, database.Scan[string],
		`SELECT device FROM gcm_address WHERE family = $1 AND freed_us IS NULL AND `+c.Among("device", "TEXT", 2),
		fam, database.Several(c.Engine, names))
	return without(names, have), err
}

// without those that are in taken, in their order.
func without(names, taken []string) []string {
	in := make(map[string]bool, len(taken))
	for _, n := range taken {
		in[n] = true
	}
	var rest []string
	for _, n := range names {
		if !in[n] {
			rest = append(rest, n)
			in[n] = true
		}
	}
	return rest
}

// former addresses that nobody else got since.
func (c *change) former(fam int64, lack []string) ([]string, error) {
	back, err := database.Query(c.Context(), c, database.Scan[string],
		`UPDATE gcm_address SET freed_us = NULL WHERE family = $1 AND freed_us IS NOT NULL AND `+c.Among("device", "TEXT", 2)+` RETURNING device`,
		fam, database.Several(c.Engine, lack))
	return without(lack, back), err
}

// rested addresses, those that are free longest first.
func (c *change) rested(fam int64, lack []string) ([]string, error) {
	free, err := database.Query(c.Context(), c, scanAddress,
		fmt.Sprintf(`SELECT address FROM gcm_address WHERE family = $1 AND freed_us <= $2 ORDER BY freed_us LIMIT %d`, len(lack)),
		fam, c.now.Add(-c.f.Rest).UnixMicro())
	if err != nil {
		return nil, err
	}
	for i, a := range free {
		if _, err := c.Exec(`UPDATE gcm_address SET device = $1, freed_us = NULL WHERE family = $2 AND address = $3`,
			lack[i], fam, a.AsSlice()); err != nil {
			return nil, err
		}
	}
	return lack[len(free):], nil
}

// window of addresses that are looked at at once.
const window = 4096

// fresh addresses, that nobody ever had, pool by pool.
func (c *change) fresh(fam int64, own []ownPool, lack []string) ([]string, error) {
	var excluded map[netip.Addr]bool
	for _, p := range own {
		if len(lack) == 0 {
			break
		}
		if !p.next.IsValid() {
			continue
		}
		if excluded == nil {
			var err error
			if excluded, err = c.excluded(); err != nil {
				return nil, err
			}
		}
		_, last := span(p.prefix)
		var rows [][]any
		for len(lack) > 0 && p.next.IsValid() {
			// Some of the next addresses may be taken, by devices that had them when
			// the pool was a smaller one.
			var next []netip.Addr
			for a := p.next; len(next) < max(len(lack), window) && a.IsValid(); a = after(a, last) {
				next = append(next, a)
			}
			taken, err := database.Query(c.Context(), c, scanAddress,
				`SELECT address FROM gcm_address WHERE family = $1 AND address >= $2 AND address <= $3`,
				fam, next[0].AsSlice(), next[len(next)-1].AsSlice())
			if err != nil {
				return nil, err
			}
			no := map[netip.Addr]bool{}
			for _, a := range taken {
				no[a] = true
			}
			for _, a := range next {
				if len(lack) == 0 {
					break
				}
				p.next = after(a, last)
				if !no[a] && !excluded[a] {
					rows = append(rows, []any{fam, a.AsSlice(), lack[0]})
					lack = lack[1:]
				}
			}
		}
		if err := c.many(rows, func(values string) string {
			return `INSERT INTO gcm_address (family, address, device) ` + values
		}, ""); err != nil {
			return nil, err
		}
		var next any
		if p.next.IsValid() {
			next = p.next.AsSlice()
		}
		if _, err := c.Exec(`UPDATE gcm_pool SET next = $1 WHERE prefix = $2`, next, p.prefix.String()); err != nil {
			return nil, err
		}
	}
	return lack, nil
}

// after an address comes the next one, none after the last.
func after(a, last netip.Addr) netip.Addr {
	if !a.Less(last) {
		return netip.Addr{}
	}
	return a.Next()
}

func (c *change) excluded() (map[netip.Addr]bool, error) {
	all, err := database.Query(c.Context(), c, func(r database.Row) (a netip.Addr, err error) {
		var text string
		if err = r.Scan(&text); err == nil {
			a, err = netip.ParseAddr(text)
		}
		return a, err
	}, `SELECT address FROM gcm_exclude`)
	set := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		set[a] = true
	}
	return set, err
}

// free the addresses of devices that aren't authorised any more.
func (c *change) free(names ...string) error {
	_, err := c.Exec(`UPDATE gcm_address SET freed_us = $1 WHERE freed_us IS NULL AND `+c.Among("device", "TEXT", 2),
		c.now.UnixMicro(), database.Several(c.Engine, names))
	return err
}
