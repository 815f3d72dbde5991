package admit_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/roamgate/roamgate/control/admit"
)

// FuzzDecide shows a policy two certificates and an identity of the fuzzer's
// making. Nobody may get in who does not present, byte for byte, a certificate
// that the CA made: nothing else could carry its signature.
func FuzzDecide(f *testing.F) {
	w := newWorld(f)
	policy, err := admit.New(w.config)
	if err != nil {
		f.Fatal(err)
	}
	leaf, issuing := w.device.certificate.Raw, w.issuing.certificate.Raw
	f.Add(uint8(9), w.device.certificate.RawSubject, leaf, issuing)
	f.Add(uint8(2), []byte("phone-1"), leaf, issuing)
	f.Add(uint8(1), []byte{192, 0, 2, 7}, leaf, leaf)
	f.Add(uint8(3), []byte("Ann@example.org"), issuing, w.root.certificate.Raw)
	f.Add(uint8(11), []byte{}, []byte{0x30, 0x80}, []byte{})
	f.Fuzz(func(t *testing.T, idType uint8, id, first, second []byte) {
		admission, err := policy.Decide(now, admit.Evidence{IDType: idType, ID: id, Chain: [][]byte{first, second}})
		if err == nil {
			if !bytes.Equal(first, leaf) || admission.Device != "phone-1" {
				t.Fatalf("admitted %+v", admission)
			}
			return
		}
		refusal, ok := errors.AsType[*admit.Refusal](err)
		if !ok || int(refusal.Reason) >= admit.NumReasons || len(refusal.Detail) > 256 {
			t.Fatalf("refusal %#v", err)
		}
	})
}

// FuzzIdentity leaves the certificates sound and varies IDi alone, so that the
// comparison of names is reached.
func FuzzIdentity(f *testing.F) {
	w := newWorld(f)
	policy, err := admit.New(w.config)
	if err != nil {
		f.Fatal(err)
	}
	subject := w.device.certificate.RawSubject
	for _, id := range [][]byte{subject, replaceAll(subject, []byte{19, 7}, []byte{12, 7}), []byte("phone-1"), {192, 0, 2, 7}} {
		for _, idType := range []uint8{1, 2, 3, 5, 9, 11} {
			f.Add(idType, id)
		}
	}
	f.Fuzz(func(t *testing.T, idType uint8, id []byte) {
		admission, err := policy.Decide(now, admit.Evidence{IDType: idType, ID: id, Chain: w.evidence.Chain})
		if err == nil && admission.Device != "phone-1" {
			t.Fatalf("admitted as %q", admission.Device)
		}
		if err == nil && idType == 9 && !bytes.Contains(id, []byte("phone-1")) {
			t.Fatalf("a DN without the name: %x", id)
		}
	})
}
