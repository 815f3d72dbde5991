package admit

import "fmt"

// Reason for which a peer was refused. The names are part of the interface:
// they label metrics and appear in logs.
type Reason uint8

// Reasons, in the order in which Decide checks them. Those after
// ReasonExpired are told only of certificates that a trusted root stands
// behind.
const (
	ReasonNoCertificate      Reason = iota // no CERT payload
	ReasonTooMany                          // more certificates than MaxCertificates
	ReasonTooLarge                         // a certificate longer than MaxCertificateBytes
	ReasonMalformed                        // not an X.509 certificate
	ReasonWeakKey                          // RSA outside 2048-8192 bits, a curve or kind not accepted
	ReasonSignatureAlgorithm               // signed with SHA-1, MD5 or something unknown
	ReasonCriticalExtension                // a critical extension that nobody here understands
	ReasonUntrustedChain                   // no path to a configured root
	ReasonNotYetValid                      // the leaf, or an issuer, is of the future
	ReasonExpired                          // the leaf, or an issuer, is of the past
	ReasonWrongUsage                       // a CA, or not meant for IKE or client authentication
	ReasonWrongInstance                    // no configured instance OID
	ReasonRevocationUnknown                // no list of this issuer and no OCSP response, while others are configured
	ReasonRevoked                          // its issuer says so, in a list or an OCSP response
	ReasonStaleList                        // the issuer's list, or the OCSP response, is past its nextUpdate
	ReasonDeviceName                       // no usable common name
	ReasonIdentityType                     // an identification type that certificates don't carry
	ReasonIdentityMismatch                 // IDi is not of this certificate
	ReasonBarred                           // the device is barred by name
	ReasonUnknownDevice                    // no group knows the device, and only known ones get in
	ReasonEpoch                            // a ticket of authorisations that were all withdrawn

	NumReasons int = iota
)

var reasonNames = [NumReasons]string{
	ReasonNoCertificate:      "no_certificate",
	ReasonTooMany:            "too_many_certificates",
	ReasonTooLarge:           "certificate_too_large",
	ReasonMalformed:          "malformed_certificate",
	ReasonWeakKey:            "weak_key",
	ReasonSignatureAlgorithm: "signature_algorithm",
	ReasonCriticalExtension:  "critical_extension",
	ReasonUntrustedChain:     "untrusted_chain",
	ReasonNotYetValid:        "not_yet_valid",
	ReasonExpired:            "expired",
	ReasonWrongUsage:         "wrong_usage",
	ReasonWrongInstance:      "wrong_instance",
	ReasonRevocationUnknown:  "revocation_unknown",
	ReasonRevoked:            "revoked",
	ReasonStaleList:          "stale_crl",
	ReasonDeviceName:         "device_name",
	ReasonIdentityType:       "identity_type",
	ReasonIdentityMismatch:   "identity_mismatch",
	ReasonBarred:             "barred",
	ReasonUnknownDevice:      "unknown_device",
	ReasonEpoch:              "epoch",
}

// String is the name in metrics and logs.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Refusal is the error of Decide.
type Refusal struct {
	Reason Reason
	// Detail is for logs only. It is printable ASCII of at most 256 bytes,
	// whatever the peer sent.
	Detail string
	// Device that the certificates speak of, where the refusal is of that and
	// not of them; whether the peer holds the key isn't known.
	Device string
}

// Error is the reason and its detail.
func (r *Refusal) Error() string {
	return "refused: " + r.Reason.String() + ": " + r.Detail
}

const maxDetail = 256

// refuseDevice is refuse for a device whose certificates are sound, or were.
func refuseDevice(reason Reason, device, format string, args ...any) *Refusal {
	r := refuse(reason, format, args...)
	r.Device = device
	return r
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	detail := []byte(fmt.Sprintf(format, args...))
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	for i, b := range detail {
		if b < ' ' || b > '~' {
			detail[i] = '?'
		}
	}
	return &Refusal{Reason: reason, Detail: string(detail)}
}
