package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/flow"
	"github.com/roamgate/roamgate/bench/target"
)

func flowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "flow",
		Short: "Plain datagrams through a tunnel that stands: send and receive",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(flowSend(), flowReceive())
	return c
}

func flowSend() *cobra.Command {
	var (
		cfg     flow.SendConfig
		to      string
		sizes   []int
		imix    bool
		asJSON  bool
		vouched bool
	)
	c := &cobra.Command{
		Use:   "send",
		Short: "Offer UDP datagrams at a rate",
		Example: `  bench flow send --to 10.2.0.2:5202 --sizes 64 --rate 100000 --duration 5s
  bench flow send --to 10.2.0.2:5202 --imix --rate 50000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := netip.ParseAddrPort(to)
			if err != nil {
				return fmt.Errorf("%w: --to: %w", errUsage, err)
			}
			if err := target.Check(at.Addr(), vouched); err != nil {
				return err
			}
			cfg.To, cfg.Mix = at, sizes
			if imix {
				cfg.Mix = flow.IMIX
			}
			sent, err := flow.Send(c.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(sent)
			}
			fmt.Fprintf(c.OutOrStdout(), "sent %d packets in %v, %.0f a second; the socket refused %d\n",
				sent.Packets, sent.Took.Round(time.Millisecond), float64(sent.Packets)/sent.Took.Seconds(), sent.Refused)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&to, "to", "", "`address:port` of the receiver (required)")
	f.IntSliceVar(&sizes, "sizes", []int{1300}, "octets of IP packets, sent in turn")
	f.BoolVar(&imix, "imix", false, "the simple Internet mix: 64, 594 and 1,400 octets as 7:4:1")
	f.Float64Var(&cfg.Rate, "rate", 0, "packets a second; 0: as fast as the socket takes them")
	f.BoolVar(&cfg.GSO, "gso", false, "let the kernel cut the datagrams (UDP_SEGMENT)")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how long")
	f.BoolVar(&asJSON, "json", false, "one line of JSON")
	f.BoolVar(&vouched, "i-own-this-target", false, "the receiver may be loaded although it is on a network")
	if err := c.MarkFlagRequired("to"); err != nil {
		panic(err)
	}
	return c
}

func flowReceive() *cobra.Command {
	var (
		at     string
		quiet  time.Duration
		asJSON bool
	)
	c := &cobra.Command{
		Use:     "receive",
		Short:   "Count one flow, until it ends",
		Example: `  bench flow receive --at 10.2.0.2:5202`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			addr, err := netip.ParseAddrPort(at)
			if err != nil {
				return fmt.Errorf("%w: --at: %w", errUsage, err)
			}
			r, err := flow.Listen(addr)
			if err != nil {
				return err
			}
			defer r.Close()
			fmt.Fprintf(c.OutOrStdout(), "listening at %s\n", r.Addr())
			got, err := r.Run(c.Context(), quiet)
			if err != nil {
				return err
			}
			return showReceived(c.OutOrStdout(), got, r, asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&at, "at", ":5202", "`address:port` to listen at")
	f.DurationVar(&quiet, "quiet-after", time.Second, "the flow has ended when nothing came for so long")
	f.BoolVar(&asJSON, "json", false, "one line of JSON")
	return c
}

func showReceived(w io.Writer, got flow.Received, r *flow.Receiver, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(got)
	}
	l := r.Latency("one way")
	_, err := fmt.Fprintf(w, "received %d packets, lost %d, late %d, twice %d; one way p50 %.0f us, p99 %.0f us\n",
		got.Packets, got.Highest-(got.Packets-got.Twice), got.Late, got.Twice, l.P50, l.P99)
	return err
}
