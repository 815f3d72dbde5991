package xfrm

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// local is one local address with its sockets.
type local struct{ ike, encap *encap.Socket }

// locals are few, so they are looked through.
type locals []*local

// listen binds the sockets of all addresses, or with an error none. gro says
// whether the kernel gathers ESP in UDP before it opens it.
func listen(addrs []Local, device string) (_ locals, gro bool, err error) {
	var ls locals
	defer func() {
		if err != nil {
			_ = ls.close() // err says more
		}
	}()
	gro = true
	for _, a := range addrs {
		at := new(local)
		ls = append(ls, at)
		if at.ike, err = encap.Listen(a.IKE, device); err != nil {
			return nil, false, err
		}
		if at.encap, err = encap.Listen(a.Encap, device); err != nil {
			return nil, false, err
		}
		if err = errors.Join(bypass(at.ike), bypass(at.encap)); err != nil {
			return nil, false, err
		}
		if err = unix.SetsockoptInt(at.encap.FD(), unix.IPPROTO_UDP, unix.UDP_ENCAP, encapESPInUDP); err != nil {
			return nil, false, fmt.Errorf("ESP in UDP at %v: %w: %w", at.encap.Local(), ErrKernel, err)
		}
		// After UDP_ENCAP: it says whose packets are gathered (Linux 6.7).
		gro = unix.SetsockoptInt(at.encap.FD(), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil && gro
	}
	return ls, gro, nil
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

// check says whether a path starts from one of the addresses. Errors:
// dataplane.ErrInvalid, wrapped.
func (ls locals) check(path dataplane.Path) error {
	if err := path.Validate(); err != nil {
		return err
	}
	for _, at := range ls {
		ours := at.encap.Local()
		if path.Encapsulation == dataplane.EncapsulationNone && ours.Addr() == path.Local.Addr() || ours == path.Local {
			return nil
		}
	}
	return fmt.Errorf("%w: path from %v, which is not ours", dataplane.ErrInvalid, path.Local)
}

// forMessage is the socket that an IKE message leaves by, nil if there is none.
func (ls locals) forMessage(from netip.AddrPort, marker bool) *encap.Socket {
	for _, at := range ls {
		s := at.ike
		if marker {
			s = at.encap
		}
		if s.Local() == from {
			return s
		}
	}
	return nil
}

func (ls locals) close() error {
	var errs []error
	for _, at := range ls {
		for _, s := range []*encap.Socket{at.ike, at.encap} {
			if s != nil {
				errs = append(errs, s.Close())
			}
		}
	}
	return errors.Join(errs...)
}
