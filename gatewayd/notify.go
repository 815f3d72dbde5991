package main

import (
	"log/slog"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// notify tells a service manager how we are (sd_notify(3)), if there is one.
type notify struct{ logger *slog.Logger }

func (n notify) ready()    { n.send("READY=1\nSTATUS=forwarding") }
func (n notify) serving()  { n.send("READY=1\nSTATUS=serving") }
func (n notify) stopping() { n.send("STOPPING=1") }

func (n notify) reloading() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		n.send("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(ts.Nano()/1000, 10))
	}
}

func (n notify) send(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		n.logger.Warn("service manager was not told", slog.String("socket", name), slog.Any("error", err))
	}
}
