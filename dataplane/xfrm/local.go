package xfrm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// listen binds the sockets of all addresses, or with an error none. gro says
// whether the kernel gathers ESP in UDP before it opens it.
func listen(addrs []Local, device string) (_ encap.Pairs, gro bool, err error) {
	var pairs encap.Pairs
	defer func() {
		if err != nil {
			_ = pairs.Close() // err says more
		}
	}()
	gro = true
	for _, a := range addrs {
		pairs = append(pairs, encap.Pair{})
		at := &pairs[len(pairs)-1]
		if at.IKE, err = encap.Listen(a.IKE, device); err != nil {
			return nil, false, err
		}
		if at.Encap, err = encap.Listen(a.Encap, device); err != nil {
			return nil, false, err
		}
		if err = errors.Join(bypass(at.IKE), bypass(at.Encap)); err != nil {
			return nil, false, err
		}
		if err = unix.SetsockoptInt(at.Encap.FD(), unix.IPPROTO_UDP, unix.UDP_ENCAP, encapESPInUDP); err != nil {
			return nil, false, fmt.Errorf("ESP in UDP at %v: %w: %w", at.Encap.Local(), ErrKernel, err)
		}
		// After UDP_ENCAP: it says whose packets are gathered (Linux 6.7).
		gro = unix.SetsockoptInt(at.Encap.FD(), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil && gro
	}
	return pairs, gro, nil
}

// bypass keeps every policy of the host away from IKE (ip(7) IP_XFRM_POLICY).
func bypass(s *encap.Socket) error {
	level, option := unix.IPPROTO_IP, unix.IP_XFRM_POLICY
	if s.Local().Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY
	}
	for _, d := range []direction{dirIn, dirOut} {
		var info [lenPolicyInfo]byte
		native.PutUint16(info[40:], family(s.Local().Addr()))
		info[160] = uint8(d)
		info[161] = actionAllow
		if err := unix.SetsockoptString(s.FD(), level, option, string(info[:])); err != nil {
			return fmt.Errorf("policy of the socket at %v: %w", s.Local(), err)
		}
	}
	return nil
}

// startsHere says whether a path starts from one of the addresses. Errors:
// dataplane.ErrInvalid, wrapped.
func startsHere(pairs encap.Pairs, path dataplane.Path) error {
	if err := path.Validate(); err != nil {
		return err
	}
	for _, at := range pairs {
		ours := at.Encap.Local()
		if path.Encapsulation == dataplane.EncapsulationNone && ours.Addr() == path.Local.Addr() || ours == path.Local {
			return nil
		}
	}
	return fmt.Errorf("%w: path from %v, which is not ours", dataplane.ErrInvalid, path.Local)
}
