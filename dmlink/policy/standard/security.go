package standard

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/roamgate/roamgate/dmlink/policy"
)

// Store of certificates.
type Store string

// Stores. Not each platform has each.
const (
	Root             Store = "root"
	Intermediate     Store = "intermediate"
	TrustedPublisher Store = "trusted publisher" // Windows
	TrustedPeople    Store = "trusted people"    // Windows
	Untrusted        Store = "untrusted"         // Windows
	// Privileged and Unprivileged: who may sign programs. Windows Mobile.
	Privileged   Store = "privileged"
	Unprivileged Store = "unprivileged"
	// SoftwarePublisher: who may sign .cab files. Windows Mobile.
	SoftwarePublisher Store = "software publisher"
)

var stores = map[Platform]map[Store]string{
	Windows: {
		Root:             "./Device/Vendor/MSFT/RootCATrustedCertificates/Root",
		Intermediate:     "./Device/Vendor/MSFT/RootCATrustedCertificates/CA",
		TrustedPublisher: "./Device/Vendor/MSFT/RootCATrustedCertificates/TrustedPublisher",
		TrustedPeople:    "./Device/Vendor/MSFT/RootCATrustedCertificates/TrustedPeople",
		Untrusted:        "./Device/Vendor/MSFT/RootCATrustedCertificates/UntrustedCertificates",
	},
	WindowsMobile: {
		Root:              "./Vendor/MSFT/CertificateStore/ROOT",
		Intermediate:      "./Vendor/MSFT/CertificateStore/CA",
		Privileged:        "./Vendor/MSFT/CertificateStore/Privileged Execution Trust Authorities",
		Unprivileged:      "./Vendor/MSFT/CertificateStore/Unprivileged Execution Trust Authorities",
		SoftwarePublisher: "./Vendor/MSFT/CertificateStore/SPC",
	},
}

// Certificates that shall be in a store, and, with Absent, not.
type Certificates struct {
	Store        Store
	Certificates []*x509.Certificate
	Absent       []*x509.Certificate
}

// Settings implements Builder. A certificate's node is named by its SHA-1 in
// hexadecimal, can't be added by itself but comes with EncodedCertificate, whose
// base64 has no line ends, and is removed as a whole
// (windows/client-management/mdm/rootcacertificates-csp, [MS-MDE2] 2.2.9.4).
func (w Certificates) Settings(p Platform) ([]policy.Setting, bool, error) {
	store, ok := stores[p][w.Store]
	if !ok {
		return nil, false, noNode("certificate store "+string(w.Store), p)
	}
	if len(w.Certificates)+len(w.Absent) == 0 {
		return nil, false, wish("certificate store %s: no certificate", w.Store)
	}
	place := func(c *x509.Certificate) string {
		sum := sha1.Sum(c.Raw)
		return store + "/" + strings.ToUpper(hex.EncodeToString(sum[:]))
	}
	var out []policy.Setting
	for _, c := range w.Certificates {
		if (w.Store == Root || w.Store == Intermediate) && !c.IsCA {
			return nil, false, wish("certificate store %s: %s is no CA", w.Store, c.Subject)
		}
		out = append(out, policy.Setting{
			URI: place(c) + "/EncodedCertificate", Format: "b64", Data: base64.StdEncoding.EncodeToString(c.Raw), RemoveAt: place(c),
		})
	}
	for _, c := range w.Absent {
		out = append(out, policy.Setting{URI: place(c), Absent: true})
	}
	return out, false, nil
}

// Kind of password.
type Kind string

// Kinds.
const (
	AnyPassword  Kind = "" // digits or letters, as the user likes
	Numeric      Kind = "numeric"
	Alphanumeric Kind = "alphanumeric"
)

// Password that a device asks its user for. Zero fields say nothing.
type Password struct {
	Kind      Kind
	MinLength int // 4 to 16
	// MaxFailures until the device wipes itself: 4 to 16.
	MaxFailures int
	// Idle minutes until it locks: 1 to 999.
	Idle int
	// History of old passwords that may not come back (0 to 50), and days until
	// a new one is needed (0 to 730). Windows.
	History, MaxAge int
	// NoSimple: not 1111 or 1234. Windows.
	NoSimple bool
}

// Settings implements Builder. On Windows the DeviceLock policies, which have to
// be in one Atomic and want Replace, not Add; the others hold where
// DevicePasswordEnabled is 0, which means yes, and AlphanumericDevicePasswordRequired
// is 0 for alphanumeric, 1 for numeric, 2 for either
// (windows/client-management/mdm/policy-csp-devicelock). On Windows Mobile
// security policy 4131 and the registry values of its local authentication
// subsystem ([MS-ASPROV] section 2.2.2.24.2).
func (w Password) Settings(p Platform) ([]policy.Setting, bool, error) {
	for _, v := range []struct {
		what           string
		n, least, most int
	}{
		{"length", w.MinLength, 4, 16}, {"failures", w.MaxFailures, 4, 16}, {"idle minutes", w.Idle, 1, 999},
		{"history", w.History, 1, 50}, {"age in days", w.MaxAge, 1, 730},
	} {
		if v.n != 0 && (v.n < v.least || v.n > v.most) {
			return nil, false, wish("password %s %d, expected %d to %d", v.what, v.n, v.least, v.most)
		}
	}
	// What the values 0, 1 and 2 mean is the same on both.
	kind, ok := map[Kind]int{Alphanumeric: 0, Numeric: 1, AnyPassword: 2}[w.Kind]
	if !ok {
		return nil, false, wish("password kind %.32q, expected %s, %s or nothing", string(w.Kind), Numeric, Alphanumeric)
	}
	switch p {
	case Windows:
		return there(w.windows(kind)), true, nil
	case WindowsMobile:
		if w.History != 0 || w.MaxAge != 0 || w.NoSimple {
			return nil, false, noNode("history, age and simplicity of passwords", p)
		}
		return w.mobile(kind), false, nil
	}
	return nil, false, noNode("a password", p)
}

func (w Password) windows(kind int) []policy.Setting {
	const root = "./Device/Vendor/MSFT/Policy/Config/DeviceLock/"
	out := []policy.Setting{number(root+"DevicePasswordEnabled", 0), number(root+"AlphanumericDevicePasswordRequired", kind)}
	for _, v := range []struct {
		name string
		n    int
	}{
		{"MinDevicePasswordLength", w.MinLength}, {"MaxDevicePasswordFailedAttempts", w.MaxFailures},
		{"MaxInactivityTimeDeviceLock", w.Idle}, {"DevicePasswordHistory", w.History}, {"DevicePasswordExpiration", w.MaxAge},
	} {
		if v.n != 0 {
			out = append(out, number(root+v.name, v.n))
		}
	}
	if w.NoSimple {
		out = append(out, number(root+"AllowSimpleDevicePassword", 0))
	}
	return out
}

func (w Password) mobile(kind int) []policy.Setting {
	const (
		lassd   = "./Vendor/MSFT/Registry/HKLM/Comm/Security/Policy/LASSD/"
		timeout = lassd + "AE/{50C13377-C66D-400C-889E-C316FC4AB374}/"
		lap     = lassd + "LAP/lap_pw/"
	)
	// 0: a password is required.
	out := []policy.Setting{leaving(number("./Vendor/MSFT/SecurityPolicy/4131", 0), "1"), number(lap+"PasswordComplexity", kind)}
	if w.MinLength != 0 {
		out = append(out, number(lap+"MinimumPasswordLength", w.MinLength))
	}
	if w.MaxFailures != 0 {
		out = append(out, number(lassd+"DeviceWipeThreshold", w.MaxFailures))
	}
	if w.Idle != 0 {
		out = append(out, number(timeout+"AEFrequencyType", 1), number(timeout+"AEFrequencyValue", w.Idle))
	}
	return out
}

// CameraOff: nobody can use the camera.
type CameraOff struct{}

// Settings implements Builder: windows/client-management/mdm/policy-csp-camera.
func (CameraOff) Settings(p Platform) ([]policy.Setting, bool, error) {
	if p != Windows {
		return nil, false, noNode("a camera", p)
	}
	return []policy.Setting{number("./Device/Vendor/MSFT/Policy/Config/Camera/AllowCamera", 0)}, false, nil
}
