package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// keptFile tells what a demo left running. Only root can write there, so what
// it says may be killed and removed.
const keptFile = "/run/roamgate-demo.json"

// kept is what is to be ended, in this order.
type kept struct {
	Processes  []process `json:"processes"`
	Namespaces []string  `json:"namespaces"`
	Dir        string    `json:"dir"`
}

// process is a process ID and when it was started, in clock ticks since the
// boot, so that another process of the same ID isn't taken for it.
type process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
}

// leave writes down what runs, and tells how to look around and how to stop.
func (d *demo) leave() error {
	k := kept{Dir: d.dir}
	for _, pid := range []int{d.client.PID(), d.system.process.PID()} {
		started, err := startTime(pid)
		if err != nil {
			return errors.Join(err, d.close())
		}
		k.Processes = append(k.Processes, process{pid, started})
	}
	for _, n := range d.topology.Namespaces() {
		k.Namespaces = append(k.Namespaces, n.Name())
	}
	text, err := json.Marshal(k)
	if err == nil {
		err = os.WriteFile(keptFile, text, 0o600)
	}
	if err != nil {
		return errors.Join(err, d.close())
	}
	for _, n := range d.topology.Namespaces() {
		n.Leave()
	}
	dev, gw, lan := d.topology.Devices[0].Name(), d.topology.Gateway.Name(), d.topology.LAN.Name()
	gatewayd := d.program + " --config " + d.config()
	fmt.Printf(`
It runs on. To look around, as root:

  %[1]s status
  %[1]s session list
  %[1]s drops
  %[1]s lease list
  %[8]s device list --config %[9]s
  %[8]s gateway sessions --config %[9]s
  %[8]s policy explain phone-1 --config %[9]s
  %[8]s task place lock --device phone-1 --config %[9]s
  %[8]s enrollment request create --user bob --device phone-2 --config %[9]s
  ip netns exec %[2]s ping %[3]s
  ip netns exec %[4]s ping %[5]s
  ip netns exec %[6]s ip route
  tail -f %[7]s/run-all.log %[7]s/client/charon.log

To stop it: make demo-stop
`, gatewayd, dev, netns.LANHost, lan, d.address, gw, d.dir,
		"ip netns exec "+gw+" "+d.program, d.config())
	return nil
}

// noneKept fails where a kept demo still runs, and removes what is left of one
// that died.
func noneKept() error {
	k, err := readKept()
	if err != nil || k == nil {
		return err
	}
	for _, p := range k.Processes {
		if p.find() != nil {
			return errors.New("a demo is still running: end it by `make demo-stop`")
		}
	}
	return k.end()
}

func stop() error {
	k, err := readKept()
	if err != nil {
		return err
	}
	if k == nil {
		return errors.New("no demo was left running")
	}
	if err := k.end(); err != nil {
		return err
	}
	fmt.Println("- The demo is ended, and everything taken back")
	return nil
}

func readKept() (*kept, error) {
	text, err := os.ReadFile(keptFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k := new(kept)
	if err := json.Unmarshal(text, k); err != nil {
		return nil, fmt.Errorf("%s: %w", keptFile, err)
	}
	return k, nil
}

func (k *kept) end() error {
	var failed error
	for _, p := range k.Processes {
		failed = errors.Join(failed, p.end())
	}
	for _, name := range k.Namespaces {
		if err := netns.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, fmt.Errorf("namespace %s: %w", name, err))
		}
	}
	if failed != nil {
		return failed
	}
	return errors.Join(os.RemoveAll(k.Dir), os.Remove(keptFile))
}

// find returns the process if it still runs. The handle is bound to it (a
// pidfd) before its start time is compared.
func (p process) find() *os.Process {
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	if started, err := startTime(p.PID); err != nil || started != p.Started {
		return nil
	}
	return handle
}

// end asks the process to end and kills it when it takes long.
func (p process) end() error {
	handle := p.find()
	if handle == nil {
		return nil
	}
	if err := handle.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	for range 150 {
		if p.find() == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return handle.Kill()
}

// startTime is field 22 of /proc/PID/stat, see proc(5). The second field, the
// program's name in brackets, may hold anything. A zombie counts as gone.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
