// Package wire is what the host and the virtual machine say to each other over
// a virtio-serial port: a stream of gob values in each direction, Request to
// the guest and Reply to the host. The port loses and changes nothing, unlike
// a console on which the kernel writes as well.
//
// The guest carries out one Request at a time, in order; Signal alone may come
// while a program runs. It answers each Put with Done, each Run with Output
// and then Done, each Get with Data and then Done.
package wire

// Port is the name of the port, and Device where the guest finds it: it is the
// first port of the only virtio-serial device.
const (
	Port   = "roamgate"
	Device = "/dev/vport0p1"
)

// Chunk is the most octets that a Put, Output or Data carries.
const Chunk = 256 << 10

// Request to the guest; exactly one field is set.
type Request struct {
	Put    *Put
	Run    *Run
	Signal *Signal
	Get    *Get
}

// Put writes a piece of a file; folders above it are made.
type Put struct {
	Path string
	// Mode of the file, permission bits.
	Mode uint32
	// First truncates what there is.
	First bool
	Data  []byte
}

// Run starts a program and reports its end.
type Run struct {
	// Args begins with the program's path.
	Args []string
	// Env is added to the guest's own: PATH, HOME, TMPDIR.
	Env []string
	// Dir is made where it doesn't exist.
	Dir string
	// Stdin of the program.
	Stdin []byte
}

// Signal goes to the process group of the program that runs.
type Signal struct{ Number int }

// Get reads a file.
type Get struct{ Path string }

// Reply of the guest; exactly one field is set.
type Reply struct {
	Hello *Hello
	// Output is of the running program, standard output and standard error in
	// the order in which they were written.
	Output []byte
	// Data of a file.
	Data []byte
	Done *Done
}

// Hello is the first Reply, once the guest can carry out a Request.
type Hello struct {
	// Kernel release, such as "6.12.0-cloud-amd64".
	Kernel string
	// Warnings: modules or mounts that failed.
	Warnings []string
}

// Done ends a Request.
type Done struct {
	// Status is a program's exit status, or 128 and the signal that ended it.
	Status int
	// Error says why the Request couldn't be carried out; empty where it was.
	Error string
}
