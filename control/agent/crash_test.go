package agent

import (
	"bufio"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/enrollment/ca"
)

// fileVariable turns the test binary into an agent that takes documents until
// it is killed.
const fileVariable = "ROAMGATE_TEST_AGENT_FILE"

func TestMain(m *testing.M) {
	if file := os.Getenv(fileVariable); file != "" {
		if err := takeForever(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashIdentity needs no CA: nobody connects.
func crashIdentity() Identity {
	return Identity{
		Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Host: host, Roots: x509.NewCertPool(),
		Manager: ca.NewInstanceOID(), Agent: ca.NewInstanceOID(),
	}
}

// history has the content at each number: a step puts 20 records, most of them
// over older ones.
func history(s *gcm.Set) (gcm.Delta, error) {
	n := int(s.Version().Number)
	var put []gcm.Record
	var del [][]byte
	for i := range 20 {
		put = append(put, gcm.Authorisation{Device: fmt.Sprintf("device-%d", (20*n+i)%300), Group: fmt.Sprintf("group-%d", n)}.Record())
		del = append(del, gcm.DeviceKey(fmt.Sprintf("device-%d", (20*n+20+i)%300)))
	}
	return s.Commit(gcm.Version{Epoch: 1, Number: uint64(n) + 1}, put, del[:n%20])
}

func takeForever(file string) error {
	a, err := New(new(gateway).config(file, crashIdentity()))
	if err != nil {
		return err
	}
	s, err := gcm.NewSet(gcm.Devices)
	if err != nil {
		return err
	}
	sent := s.Clone()
	// Bounded, should the parent die without killing us.
	for range 20_000 {
		if _, err := history(s); err != nil {
			return err
		}
		at := a.State().Sections[gcm.Devices].Version.Number
		switch n := s.Version().Number; {
		case n <= at:
			sent = s.Clone()
			continue
		case n%7 == 0:
			_, err = a.Replace(s.Clone())
		case n%5 < 2:
			continue // it comes with the next, as to a gateway that was away
		default:
			_, err = a.Patch(sent.Diff(s))
		}
		if err != nil {
			return err
		}
		sent = s.Clone()
		fmt.Println(s.Version().Number)
	}
	return errors.New("nobody killed us")
}

// TestKilled: kill -9 at any moment. What was acknowledged is there, and what is
// there is one of the contents that were sent, as a whole.
func TestKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.db")
	expect, err := gcm.NewSet(gcm.Devices)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 8 {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), fileVariable+"="+file)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged uint64
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatal(err)
			}
			if n == 5+11*round {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = c.Wait()
		a := open(t, new(gateway).config(file, crashIdentity()))
		state := a.State().Sections[gcm.Devices]
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if acknowledged == 0 || state.Version.Number < acknowledged {
			t.Fatalf("round %d: %v is there, %d was acknowledged", round, state.Version, acknowledged)
		}
		for expect.Version().Number < state.Version.Number {
			if _, err := history(expect); err != nil {
				t.Fatal(err)
			}
		}
		if state.Hash != expect.Hash() || state.Records != expect.Len() {
			t.Fatalf("round %d: %v isn't what was sent", round, state.Version)
		}
	}
}
