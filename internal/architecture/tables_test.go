package architecture

const module = "github.com/avoqado/avoqado-edge"

// anything, as the only entry of a list, allows everything.
var anything = []string{"*"}

// arrows says which of our packages each of them may import, all by their
// folder. A package without a row fails: a new one is a decision. Test files
// may import any of ours.
var arrows = map[string][]string{
	"cmd/avoqado-edge":     {"internal/cli"},
	".":                    {}, // embeds documents
	"configs":              {},
	"internal/api":         {"internal/auth", "internal/event", "internal/outages"},
	"internal/auth":        {"internal/event"},
	"internal/backup":      {"internal/durable"},
	"internal/buildinfo":   {},
	"internal/certificate": {"internal/durable"},
	"internal/clock":       {"internal/durable", "internal/event"},
	"internal/cli": {
		"internal/api", "internal/auth", "internal/backup", "internal/buildinfo", "internal/cloud", "internal/config", "internal/daemon",
		"internal/discovery", "internal/event", "internal/journal", "internal/logbook", "internal/outages", "internal/service", "internal/simulate",
	},
	"internal/cloud":   {"internal/event"},
	"internal/config":  {"configs"},
	"internal/console": {},
	"internal/daemon": {
		"internal/api", "internal/auth", "internal/buildinfo", "internal/certificate", "internal/clock", "internal/config", "internal/console", "internal/discovery",
		"internal/durable", "internal/event", "internal/history", "internal/identity", "internal/journal", "internal/lan", "internal/logbook", "internal/outages", "internal/spec", "internal/uplink", "systemd",
	},
	"internal/discovery":    {"internal/identity"},
	"internal/durable":      {},
	"internal/identity":     {"internal/durable"},
	"internal/event":        {},
	"internal/history":      {},
	"internal/journal":      {"internal/event"},
	"internal/lan":          {"internal/auth", "internal/event", "internal/lan/packet", "internal/lan/payments", "internal/lan/recovery", "internal/lan/span", "internal/lan/tasks", "internal/lan/wire"},
	"internal/lan/payments": {"internal/event"},
	"internal/lan/tasks":    {"internal/event"},
	"internal/lan/recovery": {"internal/event"},
	"internal/lan/span":     {"internal/event"},
	"internal/lan/wire":     {},
	"internal/lan/packet":   {"internal/event"},
	"internal/logbook":      {"internal/durable"},
	"internal/outages":      {"internal/event"},
	"internal/service":      {"systemd"},
	"internal/simulate":     {"internal/event"},
	"internal/spec":         {".", "internal/event"},
	"internal/uplink":       {"internal/event"},

	"systemd": {},

	// Only tests import these.
	"internal/architecture":       {},
	"internal/boxtest":            anything,
	"internal/needs":              {},                                           // says what a test needs of the machine
	"internal/testpart":           {},                                           // runs a part of the box inside a test
	"internal/lan/span/redistest": {},                                           // runs a Redis for tests
	"internal/lan/conformance":    {"internal/lan/packet", "internal/lan/wire"}, // serves the official protocol suites
	"internal/uplink/brokers":     {"internal/cloud", "internal/testpart"},      // runs what a back-end may choose
	"internal/journal/powercut":   {},                                           // a disk that forgets, for the journal's tests
	"scripts/mutants":             {},                                           // breaks the journal and runs its tests
	"scripts/sbom":                {},                                           // says what a program is made of
	"scripts/unready":             {},                                           // a build that never takes events, for the tests of the packages
	"scripts/bench":               anything,                                     // a module of its own, and no part of the daemon
	"scripts/benchdiscover":       {},                                           // measures how long a terminal looks for a box
	"scripts/benchlan":            {},                                           // measures the box from outside
	"scripts/benchuplink":         anything,                                     // measures its way to the cloud
}

// testOnly lists the packages whose every file counts as a test file.
var testOnly = []string{"internal/architecture", "internal/boxtest", "internal/journal/powercut", "internal/lan/conformance", "internal/lan/span/redistest", "internal/needs", "internal/testpart", "internal/uplink/brokers", "scripts/bench", "scripts/benchdiscover", "scripts/benchlan", "scripts/benchuplink", "scripts/mutants", "scripts/sbom", "scripts/unready"}

// wall says which packages may import a library. Each owner must: a library
// that nobody needs any more goes.
type wall struct {
	library string   // import path or the beginning of one
	owners  []string // packages that are built on it
	also    []string // packages that may use it besides
}

// walls lists every library; one that has no row here is refused. Test files
// may import any of these.
var walls = []wall{
	// The six that everything stands on, each behind its own package.
	{library: "github.com/zishang520/socket.io", owners: []string{"internal/lan"}, also: []string{"internal/lan/packet", "internal/lan/span", "internal/lan/wire"}},
	{library: "go.etcd.io/bbolt", owners: []string{"internal/journal"}, also: []string{"internal/cloud"}},
	{library: "github.com/eclipse/paho.mqtt.golang", owners: []string{"internal/uplink"}, also: []string{"internal/cloud"}},
	{library: "github.com/golang-jwt/jwt/v5", owners: []string{"internal/auth"}},
	{library: "github.com/grandcat/zeroconf", owners: []string{"internal/discovery"}},
	{library: "github.com/kardianos/service", owners: []string{"internal/service"}},

	// The chosen ones.
	{library: "github.com/redis/go-redis/v9", owners: []string{"internal/lan/span"}},
	{library: "github.com/mochi-mqtt/server/v2", owners: []string{"internal/cloud"}},
	{library: "github.com/spf13/cobra", owners: []string{"internal/cli"}},
	{library: "github.com/goccy/go-yaml", owners: []string{"internal/config"}, also: []string{"internal/spec"}},
	{library: "github.com/prometheus/client_golang", owners: []string{"internal/daemon"}},
	{library: "github.com/coreos/go-systemd/v22", also: []string{"internal/daemon"}},
	{library: "github.com/miekg/dns", also: []string{"internal/discovery"}},
	{library: "github.com/godbus/dbus/v5", owners: []string{"internal/discovery"}},
	{library: "rsc.io/qr", owners: []string{"internal/discovery"}, also: []string{"internal/cli"}},
	{library: "github.com/gorilla/websocket", also: []string{"internal/lan", "internal/lan/wire", "internal/simulate", "internal/uplink"}},

	// Extensions of the standard library, and words.
	{library: "github.com/google/uuid", also: anything},
	{library: "golang.org/x", also: anything},

	// Tests alone.
	{library: "pgregory.net/rapid"},
	{library: "github.com/rabbitmq/amqp091-go"}, // internal/uplink/brokers
	{library: "github.com/hanwen/go-fuse/v2"},   // internal/journal/powercut
	{library: "github.com/rogpeppe/go-internal"},
	{library: "github.com/santhosh-tekuri/jsonschema/v6"},

	// What the journal is measured against, in scripts/bench alone.
	{library: "github.com/cockroachdb/pebble"},
	{library: "modernc.org/sqlite"},
}

// The sizes beyond which a thing is two things.
const (
	maxFileLines     = 500
	maxFunctionLines = 100
	maxMethods       = 5
)

// oversized lists what may be larger, each with its reason: a file by its path,
// a function by its package and name, an interface likewise.
var oversized = map[string]string{
	"internal/config.keys": "one row per key",
}

// packageVars lists the package-level variables besides errors, embedded files,
// regular expressions, byte literals and interface checks, each with its
// reason. None of them is ever assigned to.
var packageVars = map[string]string{
	"internal/buildinfo.commit":      "set by the linker",
	"internal/buildinfo.date":        "set by the linker",
	"internal/buildinfo.version":     "set by the linker",
	"internal/event.alertIdentity":   "column of the catalogue",
	"internal/event.alertLevel":      "column of the catalogue",
	"internal/event.alertNeeds":      "column of the catalogue",
	"internal/event.bridgeNeeds":     "column of the catalogue",
	"internal/event.bulkTwins":       "column of the catalogue",
	"internal/event.byKind":          "index of the catalogue",
	"internal/event.cancelNeeds":     "column of the catalogue",
	"internal/event.catalogue":       "the table itself",
	"internal/event.chargeIdentity":  "column of the catalogue",
	"internal/event.commandIdentity": "column of the catalogue",
	"internal/event.commandNeeds":    "column of the catalogue",
	"internal/event.countOnly":       "column of the catalogue",
	"internal/event.custodian":       "column of the catalogue",
	"internal/event.everybody":       "column of the catalogue",
	"internal/event.floor":           "column of the catalogue",
	"internal/event.heartbeatNeeds":  "column of the catalogue",
	"internal/event.leaders":         "column of the catalogue",
	"internal/event.logLevel":        "column of the catalogue",
	"internal/event.logNeeds":        "column of the catalogue",
	"internal/event.messageAction":   "column of the catalogue",
	"internal/event.messageIdentity": "column of the catalogue",
	"internal/event.messageType":     "column of the catalogue",
	"internal/event.oneTerminal":     "column of the catalogue",
	"internal/event.orderEcho":       "column of the catalogue",
	"internal/event.orderIdentity":   "column of the catalogue",
	"internal/event.orderNeeds":      "column of the catalogue",
	"internal/event.orderers":        "column of the catalogue",
	"internal/event.payers":          "column of the catalogue",
	"internal/event.paymentEcho":     "column of the catalogue",
	"internal/event.paymentIdentity": "column of the catalogue",
	"internal/event.paymentNeeds":    "column of the catalogue",
	"internal/event.publishers":      "column of the catalogue",
	"internal/event.recipient":       "column of the catalogue",
	"internal/event.replyNeeds":      "column of the catalogue",
	"internal/event.reportNeeds":     "column of the catalogue",
	"internal/event.resultIdentity":  "column of the catalogue",
	"internal/event.resultStatus":    "column of the catalogue",
	"internal/event.seller":          "column of the catalogue",
	"internal/event.settlers":        "column of the catalogue",
	"internal/event.tableFill":       "column of the catalogue",
	"internal/event.terminalList":    "column of the catalogue",
	"internal/event.venueNeed":       "column of the catalogue",
	"internal/journal.castagnoli":    "table of a checksum",
	"internal/journal.order":         "byte order of bbolt's pages",
	"internal/simulate.menu":         "table of what is sold",
	"internal/simulate.roles":        "table of who sells",
}

// topFolders are the folders the repository has. Hidden ones belong to tools.
var topFolders = []string{"cmd", "configs", "internal", "packaging", "scripts", "systemd"}

// generated are folders that tools fill and git ignores; nothing looks inside.
var generated = []string{"bin", "dist", "node_modules", "target", ".git", ".tools", ".idea", ".vscode"}
