package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Lengths in octets of the headers that a segment has, without options.
const (
	ipv4Header = 20
	ipv6Header = 40
	tcpHeader  = 20

	tcpSYN, tcpRST = 0x02, 0x04
	optionMSS      = 2
)

// clampTable is the name of the table of ClampMSS for an interface, of family
// inet.
func clampTable(ifname string) string { return "gatewayd-mss-" + ifname }

// ClampMSS lowers the MSS option of TCP connections that are forwarded to or from
// an interface, so that segments of both sides fit through a tunnel with that MTU
// of inner packets (RFC 9293 section 3.7.1), for paths on which ICMP gets lost.
// It never raises one. The table takes the place of one that an earlier run left,
// and stays until UnclampMSS. Errors: ErrUnavailable, wrapped.
func ClampMSS(ifname string, mtu int) error {
	if mtu <= ipv6Header+tcpHeader || mtu > 1<<16-1 {
		return fmt.Errorf("clamp the MSS to an MTU of %d", mtu)
	}
	table := &nftables.Table{Name: clampTable(ifname), Family: nftables.TableFamilyINet}
	err := transact(func(conn *nftables.Conn) error {
		replace(conn, table)
		chain := conn.AddChain(&nftables.Chain{
			Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityMangle,
		})
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, ifname)
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			for i, f := range families {
				limit := mtu - tcpHeader - []int{ipv4Header, ipv6Header}[i]
				match := append([]expr.Any{
					&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
				}, f.only()...)
				conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(match, clamp(uint16(limit))...)})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// clamp is for a SYN; the kernel only ever lowers the option, and corrects the
// checksum.
func clamp(limit uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpSYN | tcpRST}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{tcpSYN}},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(limit)},
		&expr.Exthdr{SourceRegister: 1, Type: optionMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}

// UnclampMSS takes away the table of ClampMSS. It isn't an error if there is none,
// nor if there is no nftables.
func UnclampMSS(ifname string) error {
	table := &nftables.Table{Name: clampTable(ifname), Family: nftables.TableFamilyINet}
	return absent(transact(func(conn *nftables.Conn) error {
		conn.DelTable(table)
		return nil
	}))
}

// absent passes over errors that say that there was nothing to remove.
func absent(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	return err
}
