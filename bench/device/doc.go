// Package device is a simulated client: an IKEv2 initiator with an ESP end of
// its own, for load generators and tests. It speaks standard protocols only,
// knows nothing of the gateway it talks to, and needs no privileges: all goes
// through one UDP socket, ESP in UDP (RFC 3948) included. It makes the gateway
// believe in a NAT before it, so that raw ESP is never agreed on.
//
// A Device has no goroutine of its own but one in its socket, unless that is
// shared, and one in the TUN device where it has one: who has a datagram, a packet
// or an order for it, or its timer, takes its lock and carries it out. Packets and
// datagrams never wait for the lock: who has it does them, too, from a bounded
// backlog. What a client can do wrong it does when told: sleep, vanish, come from
// another port or network.
//
//	shared.go     sockets that many devices share
//	config.go     what a device is made of
//	device.go     a turn of who has the device
//	backlog.go    what came meanwhile
//	ike.go        what the IKE machines want is carried out
//	sa.go         the table of Child SAs
//	packet.go     inner packets, in and out
//	icmp.go       echo
//	udp.go        datagrams in inner packets
//	behaviour.go  orders
//	profile.go    what clients of different makers offer; profiles.go the data
//
// What lives here: one client. What doesn't: fleets, schedules, measurements,
// the protocol (package ike), the cryptography of packets (package esp).
// Gateway code never imports it.
package device
