package xfrm

// Numbers of include/uapi/linux/xfrm.h that golang.org/x/sys/unix doesn't have.

// Message types.
const (
	msgNewSA      = 0x10
	msgDelSA      = 0x11
	msgGetSA      = 0x12
	msgNewPolicy  = 0x13
	msgDelPolicy  = 0x14
	msgGetPolicy  = 0x15
	msgExpire     = 0x18
	msgUpdPolicy  = 0x19
	msgUpdSA      = 0x1a
	msgNewAE      = 0x1e
	msgGetAE      = 0x1f
	msgNewSPDInfo = 0x24
	msgGetSPDInfo = 0x25
	msgMapping    = 0x26
)

// Multicast groups.
const (
	groupExpire  = 2
	groupSA      = 3
	groupMapping = 8
)

// Attributes.
const (
	attrAlgCrypt     = 2
	attrEncap        = 4
	attrTemplates    = 5
	attrSA           = 6
	attrLifetime     = 9
	attrLastUsed     = 15
	attrPolicyType   = 16
	attrAlgAEAD      = 18
	attrAlgAuthTrunc = 20
	attrReplayESN    = 23
	attrExtraFlags   = 24
	attrOffload      = 28
	attrIfID         = 31
	attrMappingAge   = 32 // XFRMA_MTIMER_THRESH, Linux 5.17
	attrDirection    = 33 // XFRMA_SA_DIR, Linux 6.10

	attrThreshold4 = 3 // XFRMA_SPD_IPV4_HTHRESH
	attrThreshold6 = 4
)

const (
	modeTunnel = 1

	flagNoPMTUDiscovery = 4
	flagAFUnspec        = 32
	flagESN             = 128

	extraDontEncapDSCP = 1

	offloadInbound = 2

	aeReplay   = 2 // XFRM_AE_RVAL
	aeLifetime = 4 // XFRM_AE_LVAL

	actionAllow = 0
	actionBlock = 1

	encapESPInUDP = 2 // UDP_ENCAP_ESPINUDP

	// infinite is XFRM_INF, no limit.
	infinite = ^uint64(0)
)

// direction of a policy, XFRM_POLICY_IN and so on.
type direction uint8

const (
	dirIn  direction = 0
	dirOut direction = 1
	dirFwd direction = 2
)

// Values of XFRMA_SA_DIR.
const (
	saDirIn  = 1
	saDirOut = 2
)

// Lengths in octets of the fixed parts, padding at the end included.
const (
	lenSelector   = 56
	lenSAInfo     = 224
	lenSAID       = 24
	lenAEID       = 48
	lenPolicyInfo = 168
	lenPolicyID   = 64
	lenTemplate   = 64
	lenExpire     = 232
	lenMapping    = 64
	lenReplayESN  = 24 // without the bitmap
	lenEncap      = 24

	// windowLen is the replay window in packets, as in package esp.
	windowLen   = 1024
	windowWords = windowLen / 32
)
