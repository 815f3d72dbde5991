package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/capture"
	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/bench/report"
)

// captureFlags say what of a run is kept for packet dissectors.
type captureFlags struct {
	pcap, keys string
	esp        uint64
}

func (f *captureFlags) flags(c *cobra.Command) {
	l := c.Flags()
	l.StringVar(&f.pcap, "pcap", "", "write what the devices send and receive to this `file`")
	l.StringVar(&f.keys, "keys", "", "write their keys into this `folder`: WIRESHARK_CONFIG_DIR=folder tshark -o esp.enable_encryption_decode:TRUE -r file")
	l.Uint64Var(&f.esp, "pcap-limit", 10_000, "how many packets of ESP are written to --pcap; IKE is up to 1 GiB")
}

// captured is a measurement with a capture of it, if one is wanted. It can change
// what is measured: by the copy of each datagram, and by the processor that writes
// them.
func (f *fleet) captured(m measurement) measurement {
	if f.captureFlags.pcap == "" && f.captureFlags.keys == "" {
		return m
	}
	return func(ctx context.Context, r *report.Report, say func(string)) error {
		c, err := capture.Open(capture.Config{
			Pcap: f.captureFlags.pcap, Keys: f.captureFlags.keys, ESP: f.captureFlags.esp, GatewayNATT: f.natt,
		})
		if err != nil {
			return err
		}
		f.capture = c
		measured := m(ctx, r, say)
		s, err := c.Close()
		r.Add("captured", float64(s.Written), "datagrams")
		r.Add("not captured: above the limit", float64(s.Beyond), "datagrams")
		r.Add("not captured: too fast for the file", float64(s.Missed), "datagrams")
		r.Add("keys exported", float64(s.Keys), "")
		if s.KeysMissed > 0 {
			r.Add("keys not exported: too fast for the file", float64(s.KeysMissed), "")
		}
		if err != nil && measured == nil {
			return fmt.Errorf("the capture: %w", err)
		}
		return measured
	}
}

// noting is a socket whose datagrams are captured, where they are to be.
func (f *fleet) noting(conn *net.UDPConn) device.Socket {
	if f.capture == nil {
		return conn
	}
	return f.capture.Socket(conn)
}
