package fleet

import (
	"fmt"
	"net/netip"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// movedAtOnce is how many devices get another address by one statement.
const movedAtOnce = 1000

// setPools makes the pools what they shall be. Addresses that are in none of the
// manager's own any more are nobody's from now on.
func (c *change) setPools(to Content, records []gcm.Record) error {
	had, err := pools(c.Tx)
	if err != nil || same(had, records) {
		return err
	}
	c.touch(addresses)
	before, err := c.ownPrefixes()
	if err != nil {
		return err
	}
	if err := c.writePools(to); err != nil {
		return err
	}
	now, err := c.ownPrefixes()
	if err != nil {
		return err
	}
	kept := func(a netip.Addr) bool {
		for _, p := range now {
			if first, last := span(p); p.Contains(a) && !a.Less(first) && !last.Less(a) {
				return true
			}
		}
		return false
	}
	for _, p := range before {
		if first, last := span(p); kept(first) && kept(last) && !overlapsOther(p, now) {
			continue
		}
		if err := c.leave(p, kept); err != nil {
			return err
		}
	}
	for _, a := range to.Exclude {
		if err := c.move(`SELECT device, address FROM gcm_address WHERE family = $1 AND address = $2`, func(netip.Addr) bool { return false },
			family(a), a.AsSlice()); err != nil {
			return err
		}
	}
	return c.assignAll()
}

// overlapsOther: parts of a network are pools, and not the whole.
func overlapsOther(p netip.Prefix, pools []netip.Prefix) bool {
	for _, q := range pools {
		if p.Overlaps(q) && q.Bits() > p.Bits() {
			return true
		}
	}
	return false
}

func (c *change) ownPrefixes() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, fam := range []int64{4, 6} {
		own, err := c.ownPools(fam)
		if err != nil {
			return nil, err
		}
		for _, p := range own {
			all = append(all, p.prefix)
		}
	}
	return all, nil
}

func (c *change) writePools(to Content) error {
	stay := make([]string, 0, len(to.Pools))
	for _, p := range to.Pools {
		first, _ := span(p.Prefix)
		// One that a gateway has given addresses out of begins anew.
		_, err := c.Exec(`INSERT INTO gcm_pool (prefix, family, gateway, next) VALUES ($1, $2, $3, $4) ON CONFLICT (prefix) DO UPDATE
			SET gateway = excluded.gateway, next = CASE WHEN gcm_pool.gateway = excluded.gateway THEN gcm_pool.next ELSE excluded.next END`,
			p.Prefix.String(), family(first), p.Gateway, first.AsSlice())
		if err != nil {
			return err
		}
		stay = append(stay, p.Prefix.String())
	}
	if _, err := c.Exec(`DELETE FROM gcm_pool WHERE NOT (`+c.Among("prefix", "TEXT", 1)+`)`, database.Several(c.Engine, stay)); err != nil {
		return err
	}
	if _, err := c.Exec(`DELETE FROM gcm_exclude`); err != nil {
		return err
	}
	for _, a := range to.Exclude {
		if _, err := c.Exec(`INSERT INTO gcm_exclude (address) VALUES ($1) ON CONFLICT (address) DO NOTHING`, a.String()); err != nil {
			return err
		}
	}
	return nil
}

// leave a network that was a pool, but for what is kept.
func (c *change) leave(p netip.Prefix, kept func(netip.Addr) bool) error {
	first, last := span(p)
	for a := first; a.IsValid(); {
		page, err := c.addressesFrom(a, last)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		end := page[len(page)-1].address
		if err := c.drop(page, kept); err != nil {
			return err
		}
		a = after(end, last)
	}
	return nil
}

type assignment struct {
	device  string
	address netip.Addr
}

func scanAssignment(r database.Row) (a assignment, err error) {
	var octets []byte
	if err = r.Scan(&a.device, &octets); err == nil {
		a.address, err = address(octets)
	}
	return a, err
}

func (c *change) addressesFrom(a, last netip.Addr) ([]assignment, error) {
	return database.Query(c.Context(), c, scanAssignment, fmt.Sprintf(`SELECT device, address FROM gcm_address
		WHERE family = $1 AND address >= $2 AND address <= $3 ORDER BY address LIMIT %d`, movedAtOnce),
		family(a), a.AsSlice(), last.AsSlice())
}

// move those that a query finds and that aren't kept.
func (c *change) move(text string, kept func(netip.Addr) bool, args ...any) error {
	page, err := database.Query(c.Context(), c, scanAssignment, text, args...)
	if err != nil {
		return err
	}
	return c.drop(page, kept)
}

// drop addresses that aren't kept: nobody has them any more. Who had them gets
// others.
func (c *change) drop(page []assignment, kept func(netip.Addr) bool) error {
	var devices []string
	for _, a := range page {
		if kept(a.address) {
			continue
		}
		if _, err := c.Exec(`DELETE FROM gcm_address WHERE family = $1 AND address = $2`, family(a.address), a.address.AsSlice()); err != nil {
			return err
		}
		devices = append(devices, a.device)
	}
	if len(devices) == 0 {
		return nil
	}
	return c.refresh(devices...)
}

// assignAll gives addresses to devices that lack one.
func (c *change) assignAll() error {
	for _, fam := range []int64{4, 6} {
		own, err := c.ownPools(fam)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			continue
		}
		for last := ""; ; {
			lack, err := database.Query(c.Context(), c, database.Scan[string], fmt.Sprintf(`SELECT name FROM gcm_device WHERE name > $1 AND NOT EXISTS (
				SELECT 1 FROM gcm_address WHERE device = name AND family = $2 AND freed_us IS NULL) ORDER BY name LIMIT %d`, movedAtOnce), last, fam)
			if err != nil {
				return err
			}
			if len(lack) == 0 {
				break
			}
			if err := c.assign(lack...); err != nil {
				return err
			}
			if err := c.refresh(lack...); err != nil {
				return err
			}
			last = lack[len(lack)-1]
		}
	}
	return nil
}
