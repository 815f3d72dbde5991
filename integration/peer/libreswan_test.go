package peer

import (
	"slices"
	"testing"
)

func TestPlutosListOfStates(t *testing.T) {
	const list = `000 #1: "gw"[1] 10.1.0.1:4500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28070s; REPLACE in 28799s; newest; idle;
000 #2: "gw"[1] 10.1.0.1:4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28195s; newest; eroute owner; IKE SA #1; idle;
000 #2: "gw"[1] 10.1.0.1 esp.13a@10.1.0.1 esp.a5da456e@10.1.0.2 tun.0@10.1.0.1 tun.0@10.1.0.2 Traffic: ESPin=0B ESPout=0B ESPmax=2^63B
000 #3: "gw"[1] 10.1.0.1:4500 STATE_V2_REKEY_CHILD_I1 (sent CREATE_CHILD_SA request to rekey IPsec SA); IKE SA #1; idle;
`
	want := []PlutoSA{{Number: 1}, {Number: 2, Child: true}}
	if got := plutoSAs(list); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
