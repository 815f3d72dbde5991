package ikewire

import (
	"encoding/binary"
	"math"
	"strconv"
)

// CFGType of a configuration payload.
type CFGType uint8

const (
	CFGRequest CFGType = 1
	CFGReply   CFGType = 2
	CFGSet     CFGType = 3
	CFGAck     CFGType = 4
)

func (t CFGType) String() string {
	switch t {
	case CFGRequest:
		return "CFG_REQUEST"
	case CFGReply:
		return "CFG_REPLY"
	case CFGSet:
		return "CFG_SET"
	case CFGAck:
		return "CFG_ACK"
	}
	return "CFG_" + strconv.Itoa(int(t))
}

// Configuration attribute types (IANA "IKEv2 Configuration Payload Attribute
// Types"). Lengths of values in octets; every value may be empty in a request.
const (
	AttrInternalIP4Address  uint16 = 1  // 4
	AttrInternalIP4Netmask  uint16 = 2  // 4
	AttrInternalIP4DNS      uint16 = 3  // 4
	AttrInternalIP4NBNS     uint16 = 4  // 4
	AttrInternalIP4DHCP     uint16 = 6  // 4
	AttrApplicationVersion  uint16 = 7  // text
	AttrInternalIP6Address  uint16 = 8  // 17: address, prefix length
	AttrInternalIP6DNS      uint16 = 10 // 16
	AttrInternalIP6DHCP     uint16 = 12 // 16
	AttrInternalIP4Subnet   uint16 = 13 // 8: address, netmask
	AttrSupportedAttributes uint16 = 14 // 2 each
	AttrInternalIP6Subnet   uint16 = 15 // 17: address, prefix length
	AttrInternalDNSDomain   uint16 = 25 // text, RFC 8598
	AttrInternalDNSSECTA    uint16 = 26 // RFC 8598
)

// MaxConfigAttributes in one configuration payload. A reply with 200 subnets
// still fits; requests have about ten.
const MaxConfigAttributes = 256

// CP is the configuration payload (RFC 7296 section 3.15).
type CP struct {
	CFGType    CFGType
	Attributes []ConfigAttribute
}

// ConfigAttribute is one attribute; Type has 15 bits.
type ConfigAttribute struct {
	Type  uint16
	Value []byte
}

func (*CP) Type() PayloadType { return PayloadCP }

// usualAttributes are as many as devices ask for.
const usualAttributes = 8

func parseCP(b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "configuration header", ErrTruncated)
	}
	p := &CP{CFGType: CFGType(b[0]), Attributes: make([]ConfigAttribute, 0, min((len(b)-4)/4, usualAttributes))}
	for offset := 4; offset < len(b); {
		rest := b[offset:]
		if len(rest) < 4 {
			return nil, fieldError(offset, "attribute header", ErrTruncated)
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n > len(rest)-4 {
			return nil, fieldError(offset+2, "attribute value", ErrTruncated)
		}
		if len(p.Attributes) == MaxConfigAttributes {
			return nil, fieldError(offset, "attributes", ErrTooMany)
		}
		p.Attributes = append(p.Attributes, ConfigAttribute{
			Type:  binary.BigEndian.Uint16(rest) & 0x7fff,
			Value: rest[4 : 4+n : 4+n],
		})
		offset += 4 + n
	}
	return p, nil
}

func (p *CP) appendBody(dst []byte) ([]byte, error) {
	dst = append(dst, byte(p.CFGType), 0, 0, 0)
	for _, a := range p.Attributes {
		if a.Type > 0x7fff {
			return dst, fieldError(0, "attribute type", ErrSyntax)
		}
		if len(a.Value) > math.MaxUint16 {
			return dst, fieldError(0, "attribute value", ErrLength)
		}
		dst = binary.BigEndian.AppendUint16(dst, a.Type)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
		dst = append(dst, a.Value...)
	}
	return dst, nil
}
