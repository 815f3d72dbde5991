// Package ikewire is the message codec of IKEv2 (RFC 7296 section 3, RFC 7383
// section 2.5 for encrypted fragments): a file a payload.
//
// What lives here: how octets become a [Message] and its payloads and back,
// the numbers of the IANA registry that this project names, and the limits
// that keep a hostile message from costing more than its size. What doesn't:
// any meaning. Which payloads an exchange needs, which proposal is acceptable,
// what to answer, belongs to package ike; opening and sealing encrypted
// payloads belongs to package ikecrypto.
//
// All integers on the wire are big-endian. Parsed payloads alias the slice
// that they were parsed from: whoever reuses that slice copies first what
// outlives the message. Encoding copies.
//
// Reserved fields are ignored when read and zero when written, as RFC 7296
// section 2.5 demands; a message whose reserved fields are zero is reproduced
// octet for octet.
package ikewire
