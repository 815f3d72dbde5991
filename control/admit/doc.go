// Package admit decides who gets in: it takes the certificates and the
// identity that a peer presented in IKE_AUTH (RFC 7296 sections 3.5 and 3.6)
// and answers with a device, or with the one reason why not.
//
// A [Policy] is built from a [Config] once and never changes; a reload builds
// a new one, and its owner swaps the pointer. Decisions are offline: trust
// anchors, instance OIDs, revocation lists, OCSP responses and barred devices
// are all in the Config, or on its [Roll]; nothing is ever fetched. Decide is safe for concurrent use, but costs some signature checks:
// it belongs on a worker, not on a packet loop.
//
// What Decide says of a peer is true only if the peer also holds the key:
// whoever calls it must verify the AUTH payload with [Admission.Certificate]
// before anything is given to the device. To the peer every refusal is the
// same AUTHENTICATION_FAILED; the [Reason] is for logs and metrics only.
//
// A device is known by the common name of its certificate, in lower case (see
// [DeviceName]). IDi must belong to that certificate, so that no device can
// speak for another, but it does not name the device.
//
// The instance OID separates installations that share a root: it is read as a
// certificate policy (RFC 5280 section 4.2.1.4) or as an extended key usage
// (section 4.2.1.12) of the leaf. crypto/x509 can't represent arcs above 31
// bits in an extended key usage, so an OID of the 2.25 arc has to be a policy.
//
// What doesn't live here: files, clocks, logging, the AUTH payload, leases.
package admit
