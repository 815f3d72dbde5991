// Package alerter is the gateway's part of waking devices: datagrams that the
// manager made go into the tunnel, to the device's virtual address, from one
// fixed address and port that access lists can name, again and again until the
// device is heard from or the tries are used up. What became of an alert is a
// value for the manager.
//
// The octets are opaque: a gateway holds no secret of device management, can't
// make an alert, and can't say what one means. A device has one alert at a time,
// the last one; the table is bounded, and so is what is sent in a second.
//
// That a device is heard from means that it isn't asleep, not that it obeyed:
// whether it opened a session the manager sees itself.
//
// The address that alerts come from lies within the gateway's traffic selectors,
// best the tunnel's own address; the kernel routes what is sent to the TUN or
// XFRM interface like all else that is for a device.
//
// What doesn't live here: how the manager's octets come (package agent), who is
// connected (package session), what an alert says (dmlink/alert).
package alerter
