package xfrm

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Many messages in one batch are carried out each by itself, over several system
// calls: the one that fails is the one that is told. Policies need no ESP, so
// this runs on every kernel with XFRM.
func TestErrorsByMessage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	n := newNamespace(t, "batch")
	var c *conn
	err := n.Do(func() (err error) { c, err = dial(); return err })
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Skip("the kernel has no XFRM")
	}
	check(t, err)
	t.Cleanup(func() { check(t, c.close()) })

	const policies = 3 * pieceLen
	var q batch
	dst := netip.MustParseAddr("10.9.0.1")
	keyOf := func(dst netip.Addr) policyKey {
		return policyKey{dirOut, selector{src: anyPrefix(dst), dst: hostPrefix(dst)}}
	}
	doomed := map[int]bool{5: true, pieceLen: true, policies - 1: true}
	for i := range policies {
		if !doomed[i] {
			q.putPolicy(msgNewPolicy, &policy{policyKey: keyOf(dst), ifID: 0x47, priority: 1, template: outTemplate()})
			dst = dst.Next()
			continue
		}
		q.putPolicy(msgNewPolicy, &policy{policyKey: keyOf(dst.Prev()), ifID: 0x47, priority: 1, template: outTemplate()})
	}
	keys := q.buf[:cap(q.buf)]
	for i, err := range c.do(&q, nil) {
		if doomed[i] != errors.Is(err, unix.EEXIST) || !doomed[i] && err != nil {
			t.Errorf("policy %d: %v", i, err)
		}
	}
	for _, octet := range keys {
		if octet != 0 {
			t.Fatal("the batch wasn't erased")
		}
	}

	count := 0
	check(t, c.dump(msgGetPolicy, func(m message) {
		if key, ifID, ok := parsePolicy(m.body); ok && ifID == 0x47 && key.dir == dirOut {
			count++
			q.delPolicy(key, ifID)
		}
	}))
	if want := policies - len(doomed); count != want || q.len() != want {
		t.Errorf("%d policies, want %d", count, want)
	}
	check(t, c.do(&q, nil)...)

	q.newSPDInfo(thresholds{0, 32, 0, 128})
	q.getSPDInfo()
	told := 0
	check(t, c.do(&q, func(i int, m message) {
		if got, ok := parseThresholds(m.body); i != 1 || !ok || got != (thresholds{0, 32, 0, 128}) {
			t.Errorf("answer to message %d: %+v, %t", i, got, ok)
		}
		told++
	})...)
	if told != 1 {
		t.Errorf("%d answers, want 1", told)
	}
	// After an error the socket is in step.
	q.byID(msgGetSA, inbound(nil).id)
	if err := c.do(&q, nil)[0]; !errors.Is(err, unix.ESRCH) {
		t.Errorf("an SA of nobody: %v", err)
	}
}
