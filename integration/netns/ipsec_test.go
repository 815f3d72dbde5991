package netns_test

import (
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
)

// The probe leaves nothing behind, and a fresh namespace counts no errors.
func TestXFRMIsFound(t *testing.T) {
	netns.NeedKernelIPsec(t)
	top := netns.ForTest(t, netns.Options{})
	n, err := top.Gateway.SAs()
	if err != nil || n != 0 {
		t.Errorf("%d SAs, %v; want none", n, err)
	}
	if errs, err := top.Gateway.IPsecErrors(); err != nil || len(errs) != 0 {
		t.Errorf("errors %v, %v; want none", errs, err)
	}
	if err := netns.KernelIPsec(); err != nil {
		t.Errorf("found once and not again: %v", err)
	}
}
