package main

import (
	"errors"
	"log/slog"
	"runtime"

	"github.com/roamgate/roamgate/bpf/steer"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/dataplane/userspace"
	"github.com/roamgate/roamgate/gatewayd/config"
)

// maxLoops is what an SPI can name.
const maxLoops = 32

// loops of the data plane: as configured, or one for each core.
func loops(c *config.Config) int {
	if n := c.Gateway.Tunnel.Loops; n > 0 {
		return n
	}
	return min(runtime.GOMAXPROCS(0), maxLoops)
}

// insideQueues is the TUN device: a queue for each loop.
type insideQueues []*tun.Device

func createInside(c *config.Config, mtu int) (insideQueues, error) {
	return tun.CreateQueues(tun.Config{Name: c.Gateway.Tunnel.Name, MTU: mtu}, loops(c))
}

func (i insideQueues) name() string { return i[0].Name() }

// queues as the data plane takes them.
func (i insideQueues) queues() (list []userspace.Inside) {
	for _, q := range i {
		list = append(list, q)
	}
	return list
}

func (i insideQueues) Close() error {
	var errs []error
	for _, q := range i {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// steering of several loops by BPF; nil where there is one loop, or no BPF: then
// packets are passed on between the loops.
func (i insideQueues) steering(children int, logger *slog.Logger, undo *undoStack) userspace.Steering {
	if len(i) == 1 {
		return nil
	}
	s, err := steer.Open(steer.Config{
		LoopShift: userspace.LoopShift, LoopMask: userspace.LoopMask,
		Addresses: 2 * children, // IPv4 and IPv6
	})
	if err == nil {
		if err = s.Queues(i[0].FD()); err == nil {
			undo.push("", s.Close)
			return s
		}
		err = errors.Join(err, s.Close())
	}
	logger.Warn("packets are not steered to their loops by the kernel, which costs a copy of some", slog.Any("error", err))
	return nil
}
