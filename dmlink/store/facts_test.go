package store

import (
	"errors"
	"maps"
	"testing"

	"github.com/roamgate/roamgate/dmlink/policy"
)

// What is read comes back, and nothing else.
func TestFacts(t *testing.T) {
	nodes := map[string]string{"./DevInfo/Mod": "X1", "./DevInfo/Man": "", "./A": string(make([]byte, 1000))}
	software := map[string]string{"mail": "1.2", "": "0"}
	packed, err := packFacts(nodes, software)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reading         policy.Reading
		nodes, software map[string]string
	}{
		{policy.Reading{}, nil, nil},
		{policy.Reading{URIs: []string{"./DevInfo/Mod", "./B"}}, map[string]string{"./DevInfo/Mod": "X1"}, nil},
		{policy.Reading{URIs: []string{policy.SoftwareFact}}, nil, software},
		{policy.Reading{All: true}, nodes, nil},
		{policy.Everything, nodes, software},
	} {
		gotNodes, gotSoftware, err := newWanted(c.reading).facts(packed)
		if err != nil || !maps.Equal(gotNodes, c.nodes) || !maps.Equal(gotSoftware, c.software) {
			t.Errorf("%+v: %q, %q, %v", c.reading, gotNodes, gotSoftware, err)
		}
	}
	plain, err := inflate(packed, maxPacked)
	if err != nil {
		t.Fatal(err)
	}
	for n := range plain {
		cut, err := deflate(plain[:n])
		if err != nil {
			t.Fatal(err)
		}
		got, software, err := newWanted(policy.Everything).facts(cut)
		if err != nil && !errors.Is(err, ErrInvalid) || err == nil && len(got) != len(nodes) {
			t.Errorf("of %d octets: %q, %q, %v", n, got, software, err)
		}
	}
}
