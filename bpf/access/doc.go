// Package access enforces access lists on the interface to the devices, with a
// BPF program for each direction: tcx links, or a clsact qdisc on kernels before
// 6.6. It knows which virtual address belongs to which device and which device
// to which group, counts packets by device, and polices devices and groups.
//
// What takes effect on the next packet: a device's group, a list, a rate. A list
// is replaced as a whole, so that a packet sees the old or the new one.
//
// What is pinned are the links alone: they hold their programs and those their
// maps, so what they enforce stays in force when this process ends without
// Close. A successor loads programs and maps of its own, fills them, and has the
// links change from one program to the other ([Access.Attach]): there is no
// moment without lists, and no map of another layout to come to terms with.
//
// What lives here: the programs (access.c), maps, attaching. What doesn't: what
// a list means (package acl), who belongs to which group, whoever decrypts.
package access
