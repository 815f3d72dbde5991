package api

import (
	"context"
	"maps"
	"slices"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
)

func (s *api) policies() {
	bind(s, PolicyShow, func(ctx context.Context, _ *Call, in *OnePolicy) (Policy, error) {
		v, err := s.policy(ctx, in.Version)
		return Policy{versionOf(v), v.Document}, err
	})
	bind(s, PolicyVersions, s.policyVersions)
	bind(s, PolicyStatus, func(ctx context.Context, _ *Call, _ *None) (b PolicyBehind, err error) {
		v, err := s.Policies.Document(ctx)
		if err != nil {
			return b, err
		}
		b.Version = v.Number
		b.Devices, b.Since, err = s.Versions.Behind(ctx)
		return b, err
	})
	bind(s, PolicyPlan, func(ctx context.Context, _ *Call, in *PlanPolicy) (PolicyPlanned, error) {
		base, err := s.Policies.Document(ctx)
		if err != nil {
			return PolicyPlanned{}, err
		}
		p, err := s.Policies.Plan(ctx, in.Body.Document)
		return PolicyPlanned{base.Number, p}, err
	})
	bind(s, PolicyApply, func(ctx context.Context, c *Call, in *ApplyPolicy) (PolicyVersion, error) {
		v, err := s.Policies.Apply(ctx, in.Body.Document, in.Body.Base, c.By.String(), in.Body.Comment)
		if err == nil && s.PolicyChanged != nil {
			s.PolicyChanged()
		}
		return versionOf(v), err
	})
	bind(s, PolicyExplain, func(ctx context.Context, c *Call, in *OneDevice) (Explanation, error) {
		v, err := s.Policies.Explain(ctx, in.Device)
		if err != nil {
			return Explanation{}, err
		}
		e := Explanation{Explanation: v, Hidden: !c.May(PolicyShow.Operation)}
		if e.Hidden {
			hideValues(&e.Result)
		}
		return e, nil
	})
}

// hideValues of settings: certificates, passwords and the like.
func hideValues(r *policy.Result) {
	hide := func(v *policy.Setting) {
		if v.Data != "" {
			v.Data = hidden
		}
		if v.Leave != "" {
			v.Leave = hidden
		}
	}
	r.Values = slices.Clone(r.Values)
	for i := range r.Values {
		v := &r.Values[i]
		hide(&v.Setting)
		v.Lost = slices.Clone(v.Lost)
		for j := range v.Lost {
			hide(&v.Lost[j].Setting)
		}
	}
}

func (s *api) policy(ctx context.Context, number int64) (policy.Version, error) {
	if number == 0 {
		return s.Policies.Document(ctx)
	}
	return s.Policies.Version(ctx, number)
}

func (s *api) policyVersions(ctx context.Context, _ *Call, in *ListPolicies) (Page[PolicyVersion], error) {
	return numbered(ctx, in.Paging, s.Versions.Versions, versionOf, func(v policy.Version) int64 { return v.Number })
}

func versionOf(v policy.Version) PolicyVersion {
	return PolicyVersion{Number: v.Number, At: v.At, By: v.By, Comment: v.Comment}
}

func (s *api) inventories() {
	bind(s, InventoryShow, func(ctx context.Context, _ *Call, in *OneDevice) (Inventory, error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Inventory{}, err
		}
		v, err := s.Inventories.Snapshot(ctx, in.Device)
		if err != nil {
			return Inventory{}, err
		}
		out := Inventory{Device: in.Device, Version: v.Version, Updated: v.Updated, Nodes: []InventoryNode{}, Software: listed(v.Software())}
		for _, uri := range slices.Sorted(maps.Keys(v.Nodes)) {
			n := v.Nodes[uri]
			out.Nodes = append(out.Nodes, InventoryNode{NodeValue: *valueOf(uri, &n), Since: n.Since, Size: n.Size, Digest: n.Digest})
		}
		return out, nil
	})
	bind(s, InventoryHistory, func(ctx context.Context, _ *Call, in *ListChanges) (Page[InventoryChange], error) {
		if _, err := s.Devices.Device(ctx, in.Device); err != nil {
			return Page[InventoryChange]{}, err
		}
		return numbered(ctx, in.Paging, func(ctx context.Context, before int64, n int) ([]inventory.Change, error) {
			return s.Inventories.History(ctx, in.Device, before, n)
		}, func(c inventory.Change) InventoryChange {
			return InventoryChange{Number: c.Number, At: c.At, URI: c.URI, Before: valueOf(c.URI, c.Before), After: valueOf(c.URI, c.After)}
		}, func(c inventory.Change) int64 { return c.Number })
	})
}

func valueOf(uri string, n *inventory.Value) *NodeValue {
	if n == nil {
		return nil
	}
	v := &NodeValue{URI: uri, Format: n.Format, Type: n.Type}
	v.setData(n.Data)
	return v
}
