// Package tun reads and writes IP packets through a Linux TUN device with
// virtio headers, so that the kernel hands over whole TCP and UDP super-packets
// and leaves checksums to us.
//
// What lives here: the device, a [Segmenter] that turns one frame of it into
// the IP packets it stands for, and a [Coalescer] that does the inverse. What
// doesn't: addresses, routes and
// sysctls (package link), and any look at what the packets mean.
package tun

import "errors"

// HeaderLen is the length of struct virtio_net_hdr without num_buffers, in
// octets; it stands before each packet that is read or written. Its fields are
// little-endian (virtio 1.2 section 5.1.6):
//
//	| flags 1 | gso_type 1 | hdr_len 2 | gso_size 2 | csum_start 2 | csum_offset 2 |
//
// Ten zero octets say: one packet, checksums complete.
const HeaderLen = 10

// MaxFrame is the longest frame a device can give: the virtio header and the
// longest IP packet (IPv6 header and 65,535 octets behind it). A shorter buffer
// for Read would truncate silently.
const MaxFrame = HeaderLen + 40 + 65535

// ErrMalformed: a frame contradicts its length or its virtio header.
var ErrMalformed = errors.New("malformed TUN frame")
