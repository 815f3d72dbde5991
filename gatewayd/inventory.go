package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/api"
)

func (g *global) inventoryCommand() *cobra.Command {
	f := &managerFlags{global: g}
	c := group("inventory", "Show what devices say of themselves, and what changed",
		verb(f, api.InventoryShow, verbOf[api.OneDevice, api.Inventory]{
			example: "  gatewayd inventory show phone-1\n  gatewayd inventory show phone-1 -o json | jq '.software'", complete: f.managed(), table: inventoryTable,
		}),
		list(f, api.InventoryHistory, listOf[api.ListChanges, api.InventoryChange]{
			example: "  gatewayd inventory history phone-1 --limit 20", complete: f.managed(),
			head: "AT\tNODE\tBEFORE\tAFTER",
			row: func(v api.InventoryChange) string {
				return cells(v.At, v.URI, nodeText(v.Before), nodeText(v.After))
			},
		}))
	c.Example = "  gatewayd inventory show phone-1\n  gatewayd inventory history phone-1"
	f.add(c)
	return c
}

func inventoryTable(t *tabwriter.Writer, v api.Inventory) {
	pairs(t, "device", v.Device, "version", v.Version, "updated", v.Updated)
	fmt.Fprintln(t, "\nNODE\tVALUE\tSINCE")
	for _, n := range v.Nodes {
		fmt.Fprintln(t, cells(n.URI, nodeText(&n.NodeValue), n.Since))
	}
	if len(v.Software) > 0 {
		fmt.Fprintln(t, "\nSOFTWARE\tVERSION\tPUBLISHER")
		for _, s := range v.Software {
			fmt.Fprintln(t, cells(s.Name, s.Version, s.Publisher))
		}
	}
}

func nodeText(v *api.NodeValue) string {
	switch {
	case v == nil:
		return ""
	case len(v.Data) > 80:
		return v.Data[:80] + "…"
	}
	return v.Data
}
