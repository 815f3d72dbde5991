package device

import "github.com/roamgate/roamgate/control/ikecrypto"

// What clients offer, from public documentation.

// everythingOld is what the clients below take that RFC 8247 has given up.
var everythingOld = ikecrypto.Legacy{SHA1Signatures: true, HMACSHA1: true, MODP1024: true, TripleDES: true}

// vendorIDs of the Windows client: MD5 of "MS NT5 ISAKMPOAKLEY" with the
// version behind it, of "MS-Negotiation Discovery Capable" and of
// "Vid-Initial-Contact".
var windowsVendorIDs = [][]byte{
	[]byte("\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61\x00\x00\x00\x09"),
	[]byte("\xfb\x1d\xe3\xcd\xf3\x41\xb7\xea\x16\xb7\xe5\xbe\x08\x55\xf1\x20"),
	[]byte("\x26\x24\x4d\x38\xed\xdb\x61\xb3\x17\x2a\x36\xe3\xd0\xcf\xb8\x19"),
}

const (
	strongSwanWindows = "docs.strongswan.org, interop/windowsClients"
	microsoftVPNv2    = "learn.microsoft.com, VPNv2 CSP, CryptographySuite; Set-VpnConnectionIPsecConfiguration"
)

// Windows has no IDr, MOBIKE, and fragments since version 1803.
func windows(name, source string, ike, esp []string, legacy ikecrypto.Legacy) *Profile {
	return &Profile{
		Name: name, Source: source, IKE: ike, ESP: esp, Separate: true, Legacy: legacy,
		VendorIDs: windowsVendorIDs, IPv6: true, MOBIKE: true, FragmentSize: 576,
	}
}

var (
	// Windows10Default is a connection that nobody configured further: MODP-1024
	// and nothing else.
	Windows10Default = windows("windows10-default", strongSwanWindows,
		[]string{"3des-aes128-aes192-aes256-sha1-sha256-sha384-modp1024"},
		[]string{"aes256-aes128-3des-des-null-sha1"}, everythingOld)

	// Windows11Default has AES-GCM besides, with the same group.
	Windows11Default = windows("windows11-default", strongSwanWindows,
		[]string{"3des-aes128-aes192-aes256-sha1-sha256-sha384-modp1024", "aes128gcm16-aes256gcm16-sha1-sha256-sha384-modp1024"},
		[]string{"aes256-aes128-3des-des-null-sha1"}, everythingOld)

	// Windows10Profile is a VPNv2 profile: one algorithm of each kind.
	Windows10Profile = windows("windows10-profile", microsoftVPNv2,
		[]string{"aes256-sha256-ecp384"}, []string{"aes256gcm16"}, ikecrypto.Legacy{})

	// Windows10ProfileMODP2048 is the same without elliptic curves (DHGroup
	// Group14, CipherTransformConstants AES256).
	Windows10ProfileMODP2048 = windows("windows10-profile-modp2048", microsoftVPNv2,
		[]string{"aes256-sha256-modp2048"}, []string{"aes256-sha256"}, ikecrypto.Legacy{})

	// AppleIOS is a configuration that names no algorithms, since iOS 14. The
	// PRF follows the integrity algorithm.
	AppleIOS = &Profile{
		Name:   "apple-ios",
		Source: "developer.apple.com, NEVPNIKEv2SecurityAssociationParameters: defaults AES-256, SHA2-256, group 14",
		IKE:    []string{"aes256-sha256-modp2048"}, ESP: []string{"aes256-sha256"},
		SendIDr: true, IPv6: true, MOBIKE: true, FragmentSize: 1280,
	}

	// Android is the platform's client (since 11). It has algorithms that
	// the machine doesn't: AES-CTR, XCBC, CMAC, short GCM tags.
	Android = &Profile{
		Name:   "android",
		Source: "Android Open Source Project, com.android.server.connectivity.VpnIkev2Utils",
		IKE: []string{
			"aes256ctr-aes256-aes192ctr-aes192-aes128ctr-aes128-sha512-sha384-sha256-aesxcbc-aescmac-" + androidCommon,
			"chacha20poly1305-aes256gcm16-aes256gcm12-aes256gcm8-aes192gcm16-aes192gcm12-aes192gcm8-" +
				"aes128gcm16-aes128gcm12-aes128gcm8-" + androidCommon,
		},
		ESP: []string{
			"aes256-aes192-aes128-sha512-sha384-sha256",
			"aes256gcm16-aes256gcm12-aes256gcm8-aes192gcm16-aes192gcm12-aes192gcm8-aes128gcm16-aes128gcm12-aes128gcm8",
		},
		SendIDr: true, IPv6: true, MOBIKE: true, FragmentSize: 1280,
	}

	// StrongSwan has no proposals in its configuration. What a build offers
	// depends on its plugins: Camellia, Brainpool curves and the like are left
	// out here.
	StrongSwan = &Profile{
		Name:   "strongswan",
		Source: "strongSwan 5.9, src/libstrongswan/crypto/proposal/proposal.c, default proposals",
		IKE: []string{
			"aes128-aes192-aes256-sha256-sha384-sha512-aesxcbc-aescmac-sha1-" + strongSwanCommon,
			"aes128gcm16-aes192gcm16-aes256gcm16-chacha20poly1305-" + strongSwanCommon,
		},
		ESP: []string{
			"aes128gcm16-aes192gcm16-aes256gcm16",
			"aes128-aes192-aes256-sha256-sha384-sha512-sha1-aesxcbc",
		},
		SendIDr: true, MOBIKE: true, FragmentSize: 1280,
	}
)

const (
	androidCommon = "modp4096-curve25519-modp3072-modp2048-" +
		"prfsha512-prfsha384-prfsha256-prfaesxcbc-prfaescmac-prfsha1"
	strongSwanCommon = "prfsha256-prfsha384-prfsha512-prfaesxcbc-prfaescmac-prfsha1-" +
		"ecp256-ecp384-ecp521-curve25519-modp3072-modp4096-modp6144-modp8192-modp2048"
)

// Profiles are all of them.
func Profiles() []*Profile {
	return []*Profile{
		Windows10Default, Windows11Default, Windows10Profile, Windows10ProfileMODP2048, AppleIOS, Android, StrongSwan,
	}
}
