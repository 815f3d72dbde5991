package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Config of a Steer.
type Config struct {
	// LoopShift and LoopMask say where in an SPI its loop stands: the SPI shifted to
	// the right, then the bits of the mask.
	LoopShift, LoopMask uint32
	// Addresses is how many virtual addresses may have an owner.
	Addresses int
}

// Steer is the programs, loaded. Its methods may be called from any goroutine.
type Steer struct {
	config Config
	queue  *ebpf.Program
	owners *ebpf.Map

	mu     sync.Mutex
	groups []group
}

// group is the program and sockets of one local address.
type group struct {
	SocketOf *ebpf.Program `ebpf:"socket_of"`
	Sockets  *ebpf.Map     `ebpf:"sockets"`
}

// Open loads the program for queues, which shows whether this kernel and this
// process can load any. Programs live on in the sockets and devices that they
// are attached to. Errors: those of the kernel.
func Open(c Config) (*Steer, error) {
	// Kernels before 5.11 count maps as locked memory; newer ones need nothing.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("limit of locked memory: %w", err)
	}
	s := &Steer{config: c}
	var loaded struct {
		QueueOf *ebpf.Program `ebpf:"queue_of"`
		Owners  *ebpf.Map     `ebpf:"owners"`
	}
	if err := s.load(&loaded); err != nil {
		return nil, err
	}
	s.queue, s.owners = loaded.QueueOf, loaded.Owners
	return s, nil
}

func (s *Steer) load(to any) error {
	spec, err := loadProgram()
	if err != nil {
		return err
	}
	if err := errors.Join(
		spec.Variables[programVarLoopShift].Set(s.config.LoopShift),
		spec.Variables[programVarLoopMask].Set(s.config.LoopMask),
	); err != nil {
		return err
	}
	spec.Maps[programMapOwners].MaxEntries = uint32(max(s.config.Addresses, 1))
	if err := spec.LoadAndAssign(to, nil); err != nil {
		return fmt.Errorf("load steering: %w", err)
	}
	return nil
}

// Queues has a TUN device choose among its queues; fd is one of them. The order
// of its queues is that in which they were opened, and that of the loops.
func (s *Steer) Queues(fd int) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETSTEERINGEBPF, s.queue.FD()); err != nil {
		return fmt.Errorf("TUNSETSTEERINGEBPF: %w", err)
	}
	return nil
}

// Sockets has a group of UDP sockets that share an address chosen from by SPI.
// They are in the order of the loops, bound, and with SO_REUSEPORT.
func (s *Steer) Sockets(fds []int) error {
	var g group
	if err := s.load(&g); err != nil {
		return err
	}
	s.mu.Lock()
	s.groups = append(s.groups, g)
	s.mu.Unlock()
	for loop, fd := range fds {
		if err := g.Sockets.Put(uint32(loop), uint64(fd)); err != nil {
			return fmt.Errorf("socket of loop %d: %w", loop, err)
		}
	}
	if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, g.SocketOf.FD()); err != nil {
		return fmt.Errorf("SO_ATTACH_REUSEPORT_EBPF: %w", err)
	}
	return nil
}

// Own says that packets to a virtual address go to the queue of a loop. With a
// full table the kernel goes on to choose.
func (s *Steer) Own(virtual netip.Addr, loop int) error {
	key := virtual.As16()
	return s.owners.Put(key[:], uint32(loop))
}

// Disown forgets a virtual address.
func (s *Steer) Disown(virtual netip.Addr) error {
	key := virtual.As16()
	err := s.owners.Delete(key[:])
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Close gives up the loader's part; what is attached works on until its socket or
// device closes.
func (s *Steer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.queue.Close(), s.owners.Close()}
	for _, g := range s.groups {
		errs = append(errs, g.SocketOf.Close(), g.Sockets.Close())
	}
	s.groups = nil
	return errors.Join(errs...)
}
