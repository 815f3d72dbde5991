package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/bench/enrolling"
	"github.com/roamgate/roamgate/bench/identity"
	"github.com/roamgate/roamgate/bench/load"
	"github.com/roamgate/roamgate/bench/report"
	"github.com/roamgate/roamgate/enrollment/client"
	"github.com/roamgate/roamgate/enrollment/otp"
)

// enrollFlags of the subcommand.
type enrollFlags struct {
	server, codes, key string
	devices            []int
	plan               load.Plan
	timeout            time.Duration
	vouched            bool
	sources            sources
	keep               string
}

func enrollCommand() *cobra.Command {
	var (
		o output
		f enrollFlags
	)
	c := &cobra.Command{
		Use:   "enroll",
		Short: "Enrollments with one-time codes: rate and latency",
		Long: `Enrollments by the protocol of ` + "`gatewayd enrollment join`" + `: a TLS connection, the
trust root proven by the code, a CSR, a certificate that is verified.

Each needs a code of its own, which an administrator makes; --codes has one a
line. Closed loop, without --rate: so many devices at a time as --devices says,
one number after the other with an equal part of the codes each. Open loop, with
--rate: each has its time, and --devices is how many at most.

Keys of devices are made before and not measured. Before the load the
cryptography of an enrollment is measured alone, on this machine: what an
enrollment can't cost less than.`,
		Example: `  for n in $(seq 3000); do
    gatewayd enrollment request create --user bench-$n --device bench-$n -o json | jq -r .code
  done > codes
  bench enroll --server 127.0.0.1:443 --codes codes --devices 1,25,500
  bench enroll --server 127.0.0.1:443 --codes codes --devices 500 --rate 200 --poisson --json enroll.json --html enroll.html`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c.Context()); err != nil {
				return err
			}
			codes, err := readCodes(f.codes)
			if err != nil {
				return err
			}
			if len(codes) < len(f.devices) {
				return fmt.Errorf("%w: %d codes for %d runs", errUsage, len(codes), len(f.devices))
			}
			return o.measure(c, commandLine(c), func(ctx context.Context, r *report.Report, say func(string)) error {
				return enrollments(ctx, &f, codes, r, say)
			})
		},
	}
	o.flags(c)
	l := c.Flags()
	l.StringVar(&f.server, "server", "", "the enrollment server, `HOST:PORT` (required)")
	l.StringVar(&f.codes, "codes", "", "`file` with a code a line; - is standard input (required)")
	l.StringVar(&f.key, "key", string(client.ECDSAP256), "kind of the devices' keys")
	l.IntSliceVar(&f.devices, "devices", []int{1, 25, 500}, "how many at a time; several numbers are runs, one after the other")
	l.Float64Var(&f.plan.Rate, "rate", 0, "enrollments a second, each when it is due (open loop); 0: the next one when one is over")
	l.DurationVar(&f.plan.Duration, "duration", time.Minute, "the longest that a run takes; codes that are left stay unused")
	l.BoolVar(&f.plan.Poisson, "poisson", false, "arrivals as of independent devices, not evenly spread")
	l.Uint64Var(&f.plan.Seed, "seed", 1, "of random arrivals")
	l.DurationVar(&f.timeout, "timeout", 30*time.Second, "after which one counts as failed")
	f.sources.flag(l)
	l.StringVar(&f.keep, "keep", "", "write the devices' certificates and keys to this `file`, for bench dm --identities")
	l.BoolVar(&f.vouched, "i-own-this-target", false, "the server may be loaded although it is on a network")
	for _, name := range []string{"server", "codes"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return c
}

// check the flags, and that the target may be loaded.
func (f *enrollFlags) check(ctx context.Context) error {
	if !slices.Contains(client.KeyAlgorithms, client.KeyAlgorithm(f.key)) {
		return fmt.Errorf("%w: --key %q is none of %v", errUsage, f.key, client.KeyAlgorithms)
	}
	f.plan.Grace = f.timeout
	f.plan.Count = 1
	for _, n := range f.devices {
		f.plan.Concurrency = n
		if err := f.plan.Validate(); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	address, err := client.Address(f.server)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: port %q", errUsage, port)
	}
	to, err := allowed(ctx, host, uint16(number), f.vouched)
	if err != nil {
		return err
	}
	f.server = to.String()
	return f.sources.check(to.Addr())
}

// maxCodes of a file.
const maxCodes = 1 << 20

func readCodes(name string) ([]otp.Code, error) {
	in := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	var codes []otp.Code
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		code, err := otp.ParseCode(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if codes = append(codes, code); len(codes) > maxCodes {
			return nil, fmt.Errorf("%s: more than %d codes", name, maxCodes)
		}
	}
	return codes, lines.Err()
}

// enrollments in runs of more and more devices at a time.
func enrollments(ctx context.Context, f *enrollFlags, codes []otp.Code, r *report.Report, say func(string)) error {
	say("measuring the cryptography alone")
	costs, err := enrolling.Bare(ctx, client.KeyAlgorithm(f.key))
	if err != nil {
		return err
	}
	keys, err := makeKeys(ctx, client.KeyAlgorithm(f.key), len(codes), say)
	if err != nil {
		return err
	}
	kept, err := keepIn(f.keep)
	if err != nil {
		return err
	}
	part := len(codes) / len(f.devices)
	for i, n := range f.devices {
		first := i * part
		last := first + part
		if i == len(f.devices)-1 {
			last = len(codes)
		}
		f.run(ctx, n, uint64(first), codes[first:last], keys[first:last], kept, r, say)
		if ctx.Err() != nil {
			break
		}
	}
	addCosts(r, costs, f)
	return kept.close()
}

// keeping what was enrolled, in a file; nil keeps nothing.
type keeping struct {
	mu   sync.Mutex
	file *os.File
	w    *bufio.Writer
}

func keepIn(name string) (*keeping, error) {
	if name == "" {
		return nil, nil
	}
	// What is there may be the only keys of devices.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--keep: %w", err)
	}
	return &keeping{file: f, w: bufio.NewWriter(f)}, nil
}

func (k *keeping) add(r *client.Result) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return identity.Append(k.w, append([]*x509.Certificate{r.Certificate}, r.Chain...), r.Key)
}

func (k *keeping) close() error {
	if k == nil {
		return nil
	}
	return errors.Join(k.w.Flush(), k.file.Close())
}

// run one number of devices at a time; first is the number of the first one.
func (f *enrollFlags) run(ctx context.Context, devices int, first uint64, codes []otp.Code, keys []crypto.Signer, kept *keeping, r *report.Report, say func(string)) {
	plan := f.plan
	plan.Concurrency, plan.Count = devices, uint64(len(codes))
	result := load.NewResult()
	name := fmt.Sprintf("enrollment, %d at a time", devices)
	watch, stop := context.WithCancel(ctx)
	series := follow(watch, "enrollments", result, &plan, say)
	var again atomic.Uint64
	began := time.Now()
	offered := plan.Run(ctx, func(ctx context.Context, number uint64) error {
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		tries := 0
		enrolled, err := client.Join(ctx, client.Options{
			Code: codes[number], Server: f.server, Key: keys[number],
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if tries++; tries > 1 {
					again.Add(1)
				}
				return (&net.Dialer{LocalAddr: f.sources.source(first + number)}).DialContext(ctx, network, address)
			},
		})
		if err == nil {
			err = kept.add(enrolled)
		}
		return enrollReason(err)
	}, result)
	if plan.Rate == 0 {
		offered = time.Since(began) // the last ones count, too
	}
	stop()
	s := <-series
	s.Name = name
	r.Series = append(r.Series, s)
	r.Seconds += offered.Seconds()
	done := result.Done.Load()
	r.Add("enrolled, "+strconv.Itoa(devices)+" at a time", float64(done), "")
	r.Add("rate, "+strconv.Itoa(devices)+" at a time", float64(done)/offered.Seconds(), "1/s")
	if late := result.Late.Load(); late > 0 {
		r.Add("due, but not begun in time, "+strconv.Itoa(devices)+" at most", float64(late), "")
	}
	if n := again.Load(); n > 0 {
		r.Add("connections that were tried again, "+strconv.Itoa(devices)+" at a time", float64(n), "")
	}
	r.Latencies = append(r.Latencies, result.Latency.Latency(name))
	for reason, n := range result.Failures() {
		if r.Failures == nil {
			r.Failures = make(map[string]uint64)
		}
		r.Failures[reason] += n
	}
}

// enrollReason is one of few.
func enrollReason(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{
		client.ErrUnproven, client.ErrRefused, client.ErrTampered, client.ErrProtocol, client.ErrUnreachable,
		context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	if _, ok := errors.AsType[*client.LimitedError](err); ok {
		return errors.New("too many tries (429)")
	}
	return err
}

// makeKeys for all devices, on all processors.
func makeKeys(ctx context.Context, algorithm client.KeyAlgorithm, count int, say func(string)) ([]crypto.Signer, error) {
	keys := make([]crypto.Signer, count)
	var (
		next    atomic.Int64
		workers sync.WaitGroup
		failed  atomic.Pointer[error]
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for ctx.Err() == nil && failed.Load() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				key, err := client.GenerateKey(algorithm)
				if err != nil {
					failed.Store(&err)
					return
				}
				keys[n] = key
			}
		})
	}
	watch, stop := context.WithCancel(ctx)
	go each(watch, func(float64) { say(fmt.Sprintf("keys: %d of %d", min(int(next.Load()), count), count)) })
	workers.Wait()
	stop()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return keys, ctx.Err()
}

// addCosts tells what an enrollment can't cost less than, and what that would
// allow on this machine.
func addCosts(r *report.Report, costs []enrolling.Cost, f *enrollFlags) {
	table := report.Table{Name: "cryptography of one enrollment alone, processor time", Columns: []string{"operation", "us"}}
	for _, c := range costs {
		table.Rows = append(table.Rows, []string{c.Name, us(c.Each)})
	}
	load := costs[1:] // keys are made before
	table.Rows = append(table.Rows, []string{"all but the key", us(enrolling.Sum(load))})
	r.Tables = append(r.Tables, table)
	possible := float64(runtime.GOMAXPROCS(0)) / enrolling.Sum(load).Seconds()
	r.Add("possible with nothing but the cryptography of both ends on this machine", possible, "1/s")
	for _, n := range f.devices {
		if rate, ok := r.Figure("rate, " + strconv.Itoa(n) + " at a time"); ok {
			r.Add("of it, "+strconv.Itoa(n)+" at a time", 100*rate.Value/possible, "%")
		}
	}
}

func us(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }
