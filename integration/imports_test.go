package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/roamgate/roamgate"

// importRule says what packages may import. Patterns are paths inside the
// module as path.Match knows them; a trailing /** also means what lies below.
type importRule struct {
	of []string
	// own packages that may be imported, directly; nil allows all.
	own []string
	// notOwn may not be reached, directly or through others, but for butOwn.
	notOwn, butOwn []string
	// outside modules and packages that may be reached, directly or through
	// others; nil allows all. The standard library is always allowed.
	outside []string
	// notStd are packages of the standard library not to import directly.
	notStd []string
	why    string
}

var (
	none    = []string{}
	xcrypto = []string{"golang.org/x/crypto", "golang.org/x/sys/cpu"}
)

var importRules = []importRule{{
	of: []string{"dataplane"}, own: none, outside: xcrypto,
	why: "the contract is what every backend and every user of one agrees on: it drags nothing in",
}, {
	of: []string{"dataplane/esp"}, own: []string{"dataplane", "dataplane/esp/vaes"}, outside: xcrypto,
	why: "transforms are pure, so that every backend and the simulated device can use and test them",
}, {
	of: []string{"dataplane/esp/vaes"}, own: none, outside: []string{"golang.org/x/sys/cpu"},
	why: "a cipher and nothing else",
}, {
	of: []string{"control/ikewire", "control/gate", "control/ticket"}, own: none, outside: xcrypto,
	why: "they read hostile octets first: small enough to be fuzzed and read alone",
}, {
	of: []string{"control/admit", "control/gcm"}, own: none, outside: xcrypto,
	why: "deciding who gets in, and the pushed document, are shared with the manager and need no gateway to be tested",
}, {
	of: []string{"dmlink/syncml"}, own: none, outside: xcrypto,
	why: "codecs are pure",
}, {
	of: []string{"dmlink/wbxml", "dmlink/tree"}, own: []string{"dmlink/syncml"}, outside: xcrypto,
	why: "one document, two syntaxes: the binary one writes the documents of the other; the tree answers with its statuses",
}, {
	of: []string{"dmlink/session"}, own: []string{"dmlink/syncml"}, outside: xcrypto,
	notStd: []string{"net", "net/http", "os", "log", "log/slog", "crypto/rand", "math/rand", "math/rand/v2", "sync", "database/sql"},
	why:    "the machine is a function of messages, time, randomness and two interfaces, so that every conversation can be replayed",
}, {
	of: []string{"dmlink/server"}, own: []string{"dmlink/session", "dmlink/syncml", "dmlink/wbxml"}, outside: xcrypto,
	why: "what reads strangers' octets off the network knows neither the database nor what administrators want",
}, {
	of: []string{"dmlink/alert"}, own: []string{"dmlink/syncml"}, outside: xcrypto,
	notStd: []string{"net", "net/http", "os", "database/sql"},
	why:    "whom to wake and how often doesn't depend on how a notification travels or where secrets are kept",
}, {
	of: []string{"control/alerter"}, own: none, outside: none,
	why: "it carries octets that it can't read: no secret and no message of device management is within reach",
}, {
	of: []string{"dmlink/store"}, own: []string{"dmlink/session", "dmlink/syncml", "dmlink/policy", "dmlink/inventory", "gatewayd/database"},
	notStd: []string{"net/http", "os"},
	why:    "it keeps what sessions and administrators want; what that means, and who may want it, is decided above",
}, {
	of: []string{"dmlink/access"}, own: []string{"gatewayd/database"}, notStd: []string{"net/http", "os", "log/slog"},
	why: "who may, and what they did, is kept apart from what there is to do",
}, {
	of: []string{"dmlink/api"},
	own: []string{
		"dmlink/access", "dmlink/fleet", "dmlink/inventory", "dmlink/policy", "dmlink/push", "dmlink/schedule", "dmlink/session", "dmlink/store", "dmlink/task",
	},
	notStd: []string{"os", "database/sql"},
	why:    "an operation of administrators is a call of what decides below, or a look into what is kept: it has no statement of its own",
}, {
	of: []string{"dmlink/api/client"}, own: []string{"dmlink/api"}, notStd: []string{"os", "database/sql"},
	why: "what asks knows the table of operations and no more",
}, {
	of: []string{"dmlink/schedule"}, own: []string{"dmlink/syncml"}, outside: xcrypto,
	notStd: []string{"math/rand", "math/rand/v2", "crypto/rand", "database/sql"},
	why:    "when a device comes is a function of its name and of moments, so that whoever waits for it knows it too",
}, {
	of: []string{"dmlink/task"}, own: []string{"dmlink/schedule", "dmlink/session", "dmlink/store", "dmlink/syncml", "dmlink/tree"},
	notStd: []string{"database/sql", "net/http"},
	why:    "tasks are commands and rules; statements are the store's",
}, {
	of: []string{"control/ikecrypto"}, own: []string{"control/ikewire"}, outside: append([]string{"filippo.io/bigmod"}, xcrypto...),
	why: "key exchange and keys: the only place with another module's arithmetic, which has to be constant-time",
}, {
	of: []string{"dataplane/slab"}, own: none, outside: none,
	why: "places for whatever stays",
}, {
	of: []string{"control/ike"}, own: []string{"control/ikewire", "control/ikecrypto", "dataplane/slab", "dataplane"}, outside: append([]string{"filippo.io/bigmod"}, xcrypto...),
	notStd: []string{"net", "os", "log", "log/slog", "crypto/rand", "math/rand", "math/rand/v2", "sync", "context"},
	why:    "the machine is a function of its inputs: time and randomness come in, so that every exchange can be replayed octet by octet",
}, {
	of:     []string{"control/lease"},
	own:    []string{"dataplane/slab"},
	notOwn: []string{"control/ike", "control/session", "dataplane/**"}, butOwn: []string{"dataplane/slab"},
	why: "who has which address doesn't depend on how packets or messages travel",
}, {
	of:     []string{"control/session"},
	own:    []string{"control/ike", "control/ikewire", "control/ikecrypto", "control/gate", "control/admit", "control/ticket", "control/lease", "dataplane/slab", "dataplane"},
	notOwn: []string{"dataplane/xfrm", "dataplane/userspace", "gatewayd/**"},
	why:    "sessions work with any backend: which one it is, is decided in main",
}, {
	of: []string{"dataplane/**"}, notOwn: []string{"control/**", "gatewayd/**", "dmlink/**", "enrollment/**"},
	why: "packets don't know who negotiated their keys; what happens below goes up as an event",
}, {
	of: []string{"dataplane/checksum"}, own: none, outside: xcrypto,
	why: "the sum of octets is pure",
}, {
	of: []string{"dataplane/xfrm"}, own: []string{"dataplane", "dataplane/encap", "dataplane/esp"},
	outside: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "golang.org/x/sys", "golang.org/x/crypto"},
	why:     "a backend stands beside the other one, and filters stand around it: it knows neither",
}, {
	of: []string{"bpf/**"}, own: []string{"bpf/**", "dataplane/slab"}, outside: []string{"github.com/cilium/ebpf", "golang.org/x/sys"},
	why: "a loader and its program are used by backends, not the other way round",
}, {
	of: []string{"bpf/acl"}, own: none, outside: none,
	why: "what an access list means is shared by all that enforce it, by the configuration and by the pushed document",
}, {
	of: []string{"bpf/acl/roster"}, own: []string{"bpf/acl", "dataplane/slab"}, outside: none,
	why: "who is in which group is the same for BPF and for nftables",
}, {
	of: []string{"dmlink/policy"}, own: []string{"dmlink/session", "dmlink/syncml", "dmlink/tree"},
	notStd: []string{"net", "net/http", "os", "database/sql"},
	why:    "which set wins is a function of document and device: neither a database nor a socket is in it, so that a plan and what happens are the same",
}, {
	of: []string{"dmlink/policy/standard"}, own: []string{"dmlink/policy"}, notStd: []string{"net/http", "os", "database/sql"},
	why: "what vendors call their nodes is known in one place, and the rest of policy knows no vendor",
}, {
	of: []string{"dmlink/inventory"}, own: []string{"dmlink/session", "dmlink/syncml", "dmlink/tree"}, outside: xcrypto,
	notStd: []string{"net", "net/http", "os", "database/sql"},
	why:    "what devices say is hostile: it is taken apart without a database, a socket or a filter in reach",
}, {
	of: []string{"control/agent"}, own: []string{"control/gcm"}, outside: append([]string{"go.etcd.io/bbolt", "golang.org/x/sys"}, xcrypto...),
	why: "what takes a manager's documents from the network doesn't know what they do to the gateway",
}, {
	of: []string{"dmlink/push"}, notOwn: []string{"control/ike", "control/session", "control/lease", "dataplane/**", "enrollment/**"},
	why: "push shares with the gateway the document it carries and nothing else",
}, {
	of: []string{"dmlink/fleet"}, own: []string{"control/gcm", "dmlink/push", "dmlink/alert", "gatewayd/database"}, notStd: []string{"os", "net/http"},
	why: "what gateways are told is decided here by rows alone; who may, and why a device complies, comes in",
}, {
	of: []string{"enrollment/**"}, notOwn: []string{"dmlink/**", "control/**", "dataplane/**", "gatewayd/**"}, butOwn: []string{"gatewayd/database/**"},
	why: "roles declare the narrow interface they need; gatewayd wires them",
}, {
	of: []string{"enrollment/otp"}, own: none, outside: none, notStd: []string{"os", "net", "time"},
	why: "what a person is given is the same for server, client and page",
}, {
	of: []string{"enrollment/ca"}, own: none,
	outside: append([]string{"software.sslmate.com/src/go-pkcs12", "github.com/miekg/pkcs11"}, append([]string{"golang.org/x/sys"}, xcrypto...)...),
	notStd:  []string{"database/sql", "net/http"},
	why:     "whoever signs knows neither who asks nor which database remembers it",
}, {
	of: []string{"enrollment/directory"}, own: []string{"enrollment/ca", "enrollment/otp", "gatewayd/database"}, notStd: []string{"net/http"},
	why: "the record doesn't know how a decision came about",
}, {
	of:  []string{"enrollment/enroll"},
	own: []string{"enrollment/ca", "enrollment/directory", "enrollment/otp"}, notStd: []string{"net/http", "encoding/xml", "encoding/pem", "database/sql", "os"},
	why: "the decision is one for all protocols: none of them is in it",
}, {
	of: []string{"control/**"}, notOwn: []string{"dmlink/**", "enrollment/**", "gatewayd/**"},
	why: "a gateway stands alone in the perimeter network: the CA and the store are never in its process by an import",
}, {
	of: []string{"gatewayd/config"}, notOwn: []string{"dataplane/userspace", "dataplane/xfrm", "control/session"},
	why: "a configuration can be read and checked without building what it describes",
}, {
	of: []string{"control/dhcp"}, own: none, outside: []string{"golang.org/x/sys"},
	why: "it answers hostile octets from a configuration: no session, no lease and no packet of another kind is behind an answer",
}, {
	of: []string{"enrollment/cms", "enrollment/pkcs10"}, own: none, outside: xcrypto,
	notStd: []string{"net", "net/http", "os", "time", "log/slog"},
	why:    "codecs of what strangers send: octets in, values out",
}, {
	of: []string{"enrollment/est", "enrollment/scep", "enrollment/windows"}, own: []string{"enrollment/enroll", "enrollment/otp", "enrollment/cms", "enrollment/pkcs10"},
	why: "a skin translates: it sees neither the directory nor the CA, and no other skin",
}, {
	of: []string{"enrollment/page"}, own: []string{"enrollment/ca", "enrollment/directory", "enrollment/enroll", "enrollment/otp", "enrollment/pkcs10", "enrollment/profile"}, notStd: []string{"os", "database/sql"},
	why: "the user's page shows and carries: whether a device gets a certificate is decided below, what is in the files beside it",
}, {
	of: []string{"enrollment/admin"}, own: []string{"enrollment/ca", "enrollment/directory", "enrollment/enroll", "enrollment/otp"}, notStd: []string{"os", "database/sql"},
	why: "an operation of administrators is a call of the service or a look into the directory",
}, {
	of: []string{"enrollment/delivery"}, own: []string{"enrollment/ca", "enrollment/profile"}, notStd: []string{"os", "net", "net/http", "net/smtp", "crypto/rand"},
	why: "it makes texts and files; who sends them is another matter",
}, {
	of: []string{"gatewayd/https"}, own: none, outside: none,
	why: "what stands between strangers and handlers knows none of them",
}, {
	of: []string{"gatewayd/database"}, own: none,
	why: "drivers, connection strings and transactions; tables belong to their packages",
}, {
	of:  []string{"gatewayd/accounts"},
	own: []string{"dmlink/server", "dmlink/session", "dmlink/store", "dmlink/task", "enrollment/ca", "enrollment/directory"}, notStd: []string{"os", "net", "database/sql"},
	why: "the one place where enrollment and device management meet: both stores, no listener and no file",
}, {
	of: []string{"enrollment/profile"}, own: none,
	outside: append([]string{"github.com/smallstep/pkcs7", "software.sslmate.com/src/go-pkcs12", "rsc.io/qr"}, xcrypto...),
	notStd:  []string{"os", "time", "crypto/rand", "math/rand", "math/rand/v2"},
	why:     "a profile is a function of what it is made from, so that it is compared octet by octet and made again the same: files, the clock and randomness are the caller's",
}, {
	of:     []string{"enrollment/join"},
	own:    []string{"enrollment/ca", "enrollment/enroll", "enrollment/otp", "enrollment/pkcs10"},
	notStd: []string{"os", "net"},
	why:    "the protocol is a skin: messages in, an application out, no policy; no socket and no file, so a test can be on any side of it",
}, {
	of:     []string{"enrollment/client"},
	own:    []string{"enrollment/join", "enrollment/discovery", "enrollment/otp"},
	notOwn: []string{"enrollment/profile"},
	notStd: []string{"os", "log/slog"},
	why:    "a device's side knows the messages and nothing of how a server decides; files and words for people are the command's",
}, {
	of:  []string{"enrollment/discovery"},
	own: []string{"enrollment/join", "enrollment/ca", "enrollment/otp"},
	why: "who has a request is asked by the protocol's own proof, never by reading a directory",
}, {
	of:      []string{"bench/device"},
	own:     []string{"control/ike", "control/ikewire", "control/ikecrypto", "dataplane", "dataplane/esp"},
	outside: append([]string{"filippo.io/bigmod"}, xcrypto...),
	why:     "the simulated device shares with the gateway the protocol and the transforms, and knows nothing of how a gateway is made",
}, {
	of: []string{"bench/device/dm"}, own: []string{"dmlink/alert", "dmlink/session", "dmlink/syncml", "dmlink/tree"}, outside: xcrypto,
	why: "the simulated device's DM client shares with the server the messages, notifications too, and the names of the ways to authenticate",
}, {
	of: []string{"integration/netns"}, own: none,
	why: "benchmarks, tests and the demo stand on it: it knows nothing of gateways",
}, {
	of: []string{"integration/postgres"}, own: none,
	why: "whoever tests with a database stands on it: it knows none of our tables",
}, {
	of: []string{"integration/peer", "integration/traffic"}, own: []string{"integration/netns"},
	why: "peers are software that we didn't write, and traffic is judged without our code",
}, {
	of:  []string{"integration/demo"},
	own: []string{"integration/**", "bench/device/dm", "dmlink/alert", "dmlink/session", "dmlink/syncml", "dmlink/tree", "dmlink/wbxml"},
	why: "the demo uses gatewayd as a user does, by its commands; the device's management client is the simulated one, with its tree",
}}

// gopacketUsers: it is unmaintained, so it never sees what a peer sent.
var gopacketUsers = []string{"bench/**", "integration/**"}

// benchUsers: a simulated device believes whom it is told to and misbehaves when
// told to; nothing of that ships.
var benchUsers = []string{"bench/**", "integration/**"}

// databaseUsers keep tables, or open the database that those are in.
var databaseUsers = []string{
	"dmlink/store", "dmlink/access", "dmlink/fleet", "enrollment/directory", "gatewayd",
	"gatewayd/database/databasetest", "dmlink/storetest", "enrollment/directory/directorytest", "integration/**",
}

// testingUsers are packages that exist for tests.
var testingUsers = []string{
	"dataplane/dptest", "bpf/acl/acltest", "dmlink/session/sessiontest", "dmlink/storetest", "dmlink/policy/policytest", "dmlink/inventory/inventorytest", "enrollment/directory/directorytest", "gatewayd/database/databasetest", "enrollment/jointest", "enrollment/enrolltest", "enrollment/ca/catest",
	"integration/**",
}

type goPackage struct {
	ImportPath, Name, Dir string
	Standard              bool
	Imports, Deps         []string
}

func TestWhoMayImportWhom(t *testing.T) {
	packages := listPackages(t)
	for _, complaint := range checkImports(packages, importRules) {
		t.Error(complaint)
	}
}

// The rules are tried on packages that break them, so that a rule that catches
// nothing is noticed.
func TestImportRulesCatch(t *testing.T) {
	for _, c := range []struct {
		from, imports, through string
		bad                    bool
	}{
		{from: "dataplane", imports: "golang.org/x/crypto/chacha20poly1305"},
		{from: "dataplane", imports: "github.com/vishvananda/netlink", bad: true},
		{from: "dataplane/esp", imports: module + "/dataplane"},
		{from: "dataplane/esp", imports: module + "/dataplane/tun", bad: true},
		{from: "dataplane/esp", imports: module + "/dataplane/esp/vaes"},
		{from: "dataplane/esp/vaes", imports: module + "/dataplane", bad: true},
		{from: "dataplane/userspace", imports: module + "/dataplane/esp"},
		{from: "dataplane/userspace", imports: module + "/control/ike", bad: true},
		{from: "dataplane/userspace", imports: module + "/dataplane/link", through: module + "/control/lease", bad: true},
		{from: "dataplane/xfrm", imports: module + "/dataplane/encap"},
		{from: "dataplane/xfrm", imports: module + "/dataplane/userspace", bad: true},
		{from: "dataplane/xfrm", imports: "github.com/cilium/ebpf", bad: true},
		{from: "control/ike", imports: "net/netip"},
		{from: "control/ike", imports: "net", bad: true},
		{from: "control/ike", imports: module + "/control/session", bad: true},
		{from: "control/session", imports: module + "/dataplane/userspace", bad: true},
		{from: "control/gate", imports: module + "/control/ikewire", bad: true},
		{from: "enrollment/ca", imports: module + "/dmlink/store", bad: true},
		{from: "control/session", imports: module + "/gatewayd", bad: true},
		{from: "control/session", imports: "github.com/google/gopacket", bad: true},
		{from: "bench/esp", imports: "github.com/google/gopacket"},
		{from: "bench/fleet", imports: module + "/bench/device"},
		{from: "integration/load", imports: module + "/bench/device"},
		{from: "gatewayd/doctor", imports: module + "/bench/device", bad: true},
		{from: "dmlink/store", imports: module + "/bench/device", bad: true},
		{from: "bench/device", imports: module + "/control/ike"},
		{from: "bench/device", imports: module + "/dataplane/esp"},
		{from: "bench/device", imports: "filippo.io/bigmod"},
		{from: "bench/device", imports: module + "/control/session", bad: true},
		{from: "bench/device", imports: module + "/dataplane/userspace", bad: true},
		{from: "bench/device", imports: "golang.org/x/sys/unix", bad: true},
		{from: "control/dhcp", imports: "golang.org/x/sys/unix"},
		{from: "control/dhcp", imports: module + "/control/lease", bad: true},
		{from: "control/dhcp", imports: "github.com/vishvananda/netlink", bad: true},
		{from: "enrollment/scep", imports: module + "/enrollment/cms"},
		{from: "enrollment/scep", imports: module + "/enrollment/directory", bad: true},
		{from: "enrollment/est", imports: module + "/enrollment/ca", bad: true},
		{from: "enrollment/windows", imports: module + "/enrollment/est", bad: true},
		{from: "enrollment/cms", imports: "net/http", bad: true},
		{from: "enrollment/profile", imports: "software.sslmate.com/src/go-pkcs12"},
		{from: "enrollment/profile", imports: "golang.org/x/crypto/pbkdf2"},
		{from: "enrollment/profile", imports: module + "/enrollment/ca", bad: true},
		{from: "enrollment/profile", imports: "golang.org/x/sys/unix", bad: true},
		{from: "enrollment/profile", imports: "os", bad: true},
		{from: "enrollment/profile", imports: "time", bad: true},
		{from: "enrollment/profile", imports: "crypto/rand", bad: true},
		{from: "enrollment/join", imports: module + "/enrollment/enroll"},
		{from: "enrollment/join", imports: module + "/enrollment/directory", bad: true},
		{from: "enrollment/join", imports: "net", bad: true},
		{from: "enrollment/client", imports: module + "/enrollment/join"},
		{from: "enrollment/client", imports: module + "/enrollment/enroll", bad: true},
		{from: "enrollment/discovery", imports: module + "/enrollment/directory", bad: true},
		{from: "control/agent", imports: module + "/control/gcm"},
		{from: "control/agent", imports: module + "/control/session", bad: true},
		{from: "control/agent", imports: module + "/enrollment/ca", bad: true},
		{from: "dmlink/push", imports: module + "/control/gcm"},
		{from: "dmlink/push", imports: module + "/control/agent", bad: true},
		{from: "dmlink/fleet", imports: module + "/control/gcm"},
		{from: "dmlink/fleet", imports: module + "/control/agent", bad: true},
		{from: "dmlink/fleet", imports: module + "/dmlink/store", bad: true},
		{from: "control/session", imports: "testing", bad: true},
		{from: "dmlink/wbxml", imports: module + "/dmlink/syncml"},
		{from: "dmlink/syncml", imports: module + "/dmlink/wbxml", bad: true},
		{from: "dmlink/session", imports: "net", bad: true},
		{from: "dmlink/session", imports: module + "/dmlink/server", bad: true},
		{from: "dmlink/server", imports: module + "/dmlink/store", bad: true},
		{from: "dmlink/store", imports: module + "/dmlink/session"},
		{from: "dmlink/store", imports: module + "/dmlink/task", bad: true},
		{from: "dmlink/store", imports: module + "/enrollment/directory", bad: true},
		{from: "dmlink/store", imports: module + "/gatewayd/database"},
		{from: "dmlink/task", imports: module + "/gatewayd/database", bad: true},
		{from: "enrollment/directory", imports: module + "/gatewayd/database"},
		{from: "enrollment/directory", imports: module + "/gatewayd/config", bad: true},
		{from: "enrollment/enroll", imports: module + "/enrollment/directory", through: module + "/gatewayd/database"},
		{from: "enrollment/enroll", imports: module + "/gatewayd/database", bad: true},
		{from: "dmlink/access", imports: module + "/gatewayd/database"},
		{from: "dmlink/access", imports: module + "/dmlink/store", bad: true},
		{from: "dmlink/api", imports: module + "/dmlink/access"},
		{from: "dmlink/api", imports: module + "/gatewayd/database", bad: true},
		{from: "dmlink/api", imports: module + "/enrollment/admin", bad: true},
		{from: "dmlink/api/client", imports: module + "/dmlink/access", bad: true},
		{from: "dmlink/schedule", imports: module + "/dmlink/store", bad: true},
		{from: "dmlink/task", imports: module + "/dmlink/schedule"},
		{from: "dmlink/task", imports: module + "/dmlink/server", bad: true},
		{from: "bench/device/dm", imports: module + "/dmlink/server", bad: true},
		{from: "integration/peer", imports: module + "/control/ikewire", bad: true},
	} {
		p := goPackage{ImportPath: module + "/" + c.from, Imports: []string{c.imports}, Deps: []string{c.imports}}
		if c.through != "" {
			p.Deps = append(p.Deps, c.through)
		}
		main := goPackage{ImportPath: module + "/gatewayd", Name: "main"}
		std := goPackage{Standard: true}
		packages := []goPackage{p, main}
		for _, std.ImportPath = range []string{"net", "net/netip", "os", "time", "crypto/rand", "testing"} {
			packages = append(packages, std)
		}
		if got := checkImports(packages, importRules); (len(got) > 0) != c.bad {
			t.Errorf("%s imports %s %s: complaints %q, want some: %t", c.from, c.imports, c.through, got, c.bad)
		}
	}
}

// Neither machine starts a goroutine or reads a clock; imports can't say that,
// because they need the types of package time.
func TestMachinesReadNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}
	for _, folder := range []string{"control/ike", "dmlink/session"} {
		files, err := filepath.Glob("../" + folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%d files of %s, %v", len(files), folder, err)
		}
		set := token.NewFileSet()
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine in %s", set.Position(n.Pos()), folder)
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
						t.Errorf("%s: %s reads the clock by time.%s", set.Position(n.Pos()), folder, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Name,Dir,Standard,Imports,Deps", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// pushers share the pushed document with the gateway: one carries it, the other
// keeps it.
var pushers = []string{"dmlink/push", "dmlink/fleet"}

// checkImports returns a complaint for each import that a rule forbids.
func checkImports(packages []goPackage, rules []importRule) []string {
	var complaints []string
	std, mains := map[string]bool{}, map[string]bool{}
	for _, p := range packages {
		std[p.ImportPath] = p.Standard
		mains[p.ImportPath] = p.Name == "main"
	}
	for _, p := range packages {
		inside, ok := ownPath(p.ImportPath)
		if !ok {
			continue
		}
		complain := func(what, why string) {
			complaints = append(complaints, fmt.Sprintf("%s %s: %s", inside, what, why))
		}
		for _, i := range p.Imports {
			switch {
			case mains[i]:
				complain("imports "+i, "nobody imports a main package")
			case strings.HasPrefix(i, "github.com/google/gopacket") && !matches(gopacketUsers, inside):
				complain("imports "+i, "it is unmaintained: for crafting packets in bench and integration only")
			case strings.HasPrefix(i, module+"/bench/") && !matches(benchUsers, inside):
				complain("imports "+i, "what loads and deceives a gateway has no place in one")
			case i == module+"/gatewayd/database" && !matches(databaseUsers, inside):
				complain("imports "+i, "only who keeps tables writes statements")
			case i == "testing" && !matches(testingUsers, inside):
				complain("imports "+i, "what ships has nothing to do with tests")
			}
		}
		for _, r := range rules {
			if !matches(r.of, inside) {
				continue
			}
			for _, what := range r.violations(p, std) {
				complain(what, r.why)
			}
		}
		if strings.HasPrefix(inside, "dmlink/") {
			for _, i := range p.Imports {
				own, _ := ownPath(i)
				if strings.HasPrefix(own, "enrollment/") || strings.HasPrefix(own, "control/") && (!matches(pushers, inside) || own != "control/gcm") {
					complain("imports "+own, "the manager knows the gateway by the pushed document alone, and enrollment not at all")
				}
			}
		}
	}
	return complaints
}

func (r importRule) violations(p goPackage, std map[string]bool) []string {
	var bad []string
	for _, i := range p.Imports {
		if own, ok := ownPath(i); ok && r.own != nil && !matches(r.own, own) {
			bad = append(bad, "imports "+own)
		}
		if slices.Contains(r.notStd, i) {
			bad = append(bad, "imports "+i)
		}
	}
	for _, d := range p.Deps {
		own, ok := ownPath(d)
		switch {
		case ok && matches(r.notOwn, own) && !matches(r.butOwn, own):
			bad = append(bad, "reaches "+own)
		case !ok && !std[d] && r.outside != nil && !isBelow(d, r.outside):
			bad = append(bad, "reaches "+d)
		}
	}
	return bad
}

func ownPath(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func matches(patterns []string, own string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if root, ok := strings.CutSuffix(pattern, "/**"); ok {
			return own == root || strings.HasPrefix(own, root+"/")
		}
		ok, err := path.Match(pattern, own)
		return ok && err == nil
	})
}

func isBelow(importPath string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return importPath == root || strings.HasPrefix(importPath, root+"/")
	})
}
