package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Config is the whole configuration of a box as [Load] found it right. It does
// not change afterwards; nobody may modify its slices.
type Config struct {
	Box       Box
	StateDir  string // where the journal and the box's identity live
	Socket    string // unix socket of the admin API
	LAN       LAN
	Limits    Limits
	Auth      Auth
	Uplink    Uplink
	Journal   Journal
	Storage   Storage
	Discovery Discovery
	Redis     Redis
	Log       Log

	origins  map[string]origin // by key path; a key at its default is absent
	again    func() (Config, error)
	path     string // of the file; empty: none
	warnings []string
}

// Box says who this box is.
type Box struct {
	ID    string // empty: the daemon makes one and keeps it
	Venue string // the one venue it serves
	Name  string // for people; may be empty
}

// LAN is what terminals and dashboards connect to.
type LAN struct {
	Listen       string   // host:port; the host may be empty, the port 0
	CORSOrigins  []string // origins a browser may come from
	PingInterval time.Duration
	PingTimeout  time.Duration
	Transport    Transport
	POSHub       bool // the box shows itself to the POS tablets' LAN hub
	TLS          TLSMode
	TLSCertFile  string   // PEM, the chain; with TLSKeyFile, in mode files
	TLSKeyFile   string   // PEM
	TLSNames     []string // more DNS names of the box, in lower case; in mode auto
	AllowedHosts []string // names of the box that mDNS does not give it
}

// TLSMode says where the certificate comes from that the box shows on the LAN.
type TLSMode string

// The TLS modes.
const (
	TLSOff   TLSMode = "off"
	TLSAuto  TLSMode = "auto"  // from a CA of the box's own
	TLSFiles TLSMode = "files" // from files, taken up when they change
)

// Transport says who carries WebSocket connections and broadcasts.
type Transport string

// The transports.
const (
	TransportFast    Transport = "fast"    // our own
	TransportLibrary Transport = "library" // the Socket.IO library's
)

// Limits bounds what clients may do to a box.
type Limits struct {
	MaxConnections      int
	RateWindow          time.Duration
	MaxEventsPerWindow  int // per client and RateWindow; 0: unlimited
	MaxEventsPerAddress int // of all clients at one address per RateWindow; 0: unlimited
}

// Auth is what tokens are checked with. The secrets are here wherever they
// came from; the file names are only for showing.
type Auth struct {
	AccessTokenSecret     Secret
	AccessTokenSecretFile string
	PreviousSecret        Secret // empty: none
	PreviousSecretFile    string
	JWKSFile              string // of public keys; empty: none
	JWKSURL               string // of public keys; empty: none
	Issuers               []string
	Audiences             []string
	OfflineGrace          time.Duration // 0: none
	OfflineRole           string        // a staff role; empty: each keeps its own
}

// Confirm says what makes an event count as synced.
type Confirm string

// The confirmations.
const (
	ConfirmBackend Confirm = "backend" // the back-end said it committed
	ConfirmBroker  Confirm = "broker"  // the broker took it
)

// Uplink is how the box reaches the cloud.
type Uplink struct {
	Brokers      []string // URLs, tried in order; empty: no cloud
	Prefix       string   // of all topics
	Confirm      Confirm
	Username     string
	Password     Secret
	PasswordFile string
	CAFile       string // PEM; empty: the system's certificates
	CertFile     string // PEM, of the box; with KeyFile or not at all
	KeyFile      string
	Proxy        Secret // of HTTP, may hold a password; "direct": none; empty: the environment's
	ProxyFile    string
	Probe        string // http:// URL that tells a captive portal; empty: none
	Compress     bool
	Live         bool
	KeepAlive    time.Duration
}

// Journal is how long events stay on disk once they are synced, and how much
// there may be.
type Journal struct {
	SegmentBytes int64
	RetainFor    time.Duration
	RetainBytes  int64
	MaxBytes     int64 // 0: as the disk holds
	MaxEvents    int   // 0: likewise
	BallastBytes int64 // kept free for a full disk; 0: nothing
}

// Storage is what is known about the disk.
type Storage struct {
	Endurance int64 // bytes that may be written in its life; 0: unknown
}

// DiscoveryMode says who announces the box on the LAN.
type DiscoveryMode string

// The discovery modes.
const (
	DiscoveryAuto    DiscoveryMode = "auto"    // avahi if the machine has it, else builtin
	DiscoveryAvahi   DiscoveryMode = "avahi"   // the machine's avahi-daemon
	DiscoveryBuiltin DiscoveryMode = "builtin" // the box itself
	DiscoveryOff     DiscoveryMode = "off"
)

// Discovery is how terminals find the box.
type Discovery struct {
	Mode       DiscoveryMode
	Interfaces []string // empty: every one that can multicast
}

// Redis is where the boxes of a venue that has several meet.
type Redis struct {
	URL          Secret // may hold a password; if it is set the parts do not count
	URLFile      string
	Host         string
	Port         int
	Password     Secret
	PasswordFile string
	DB           int
}

// Target returns the URL, or the one that the parts make; empty: this box is
// alone.
func (r Redis) Target() Secret {
	if r.URL != "" || r.Host == "" {
		return r.URL
	}
	u := url.URL{Scheme: "redis", Host: net.JoinHostPort(r.Host, strconv.Itoa(r.Port)), Path: "/" + strconv.Itoa(r.DB)}
	if r.Password != "" {
		u.User = url.UserPassword("", r.Password.Reveal())
	}
	return Secret(u.String())
}

// LogFormat is how log lines are written.
type LogFormat string

// The log formats.
const (
	LogAuto LogFormat = "auto" // text on a terminal, else JSON
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Log is what the daemon says of itself.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// Secret is a text that must not be seen. However it is printed, logged or
// encoded, only its length shows; [Secret.Reveal] is the one way to it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns a stand-in that says how long the secret is.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("*** (%d characters)", utf8.RuneCountInString(string(s)))
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Line is one key of the configuration in effect.
type Line struct {
	Path   string `json:"path"`
	Value  string `json:"value"` // secrets as "*** (24 characters)"
	Origin string `json:"origin"`
}

// Effective lists every key with the value in effect and where it came from,
// in the order of the reference file.
func Effective(c Config) []Line {
	lines := make([]Line, 0, len(keys()))
	for _, k := range keys() {
		where := "default"
		if o, ok := c.origins[k.path]; ok {
			where = o.String()
		}
		lines = append(lines, Line{k.path, k.bind(&c).show(), where})
	}
	return lines
}

// Warnings lists what is allowed but probably not meant.
func (c Config) Warnings() []string { return c.warnings }

// Again reads the same file, environment and flags anew, as they are now.
func (c Config) Again() (Config, error) { return c.again() }

// Files lists the files that the configuration is in, as absolute paths: its
// own, first, and those that it names. Beside its own it looks for those that a
// service manager hands over as credentials, by their names. Files that are not
// there are left out.
func (c Config) Files() []string {
	var list []string
	add := func(path string) {
		path, err := filepath.Abs(path)
		if err != nil || slices.Contains(list, path) {
			return
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			list = append(list, path)
		}
	}
	if c.path != "" {
		add(c.path)
	}
	for _, k := range keys() {
		switch {
		case k.secret:
			if o := c.origins[k.path]; o.file != "" && o.level != fromCredential {
				add(o.file)
			}
			if k.credential != "" && c.path != "" {
				add(filepath.Join(filepath.Dir(c.path), k.credential))
			}
		case strings.HasSuffix(k.path, "_file"):
			if named := k.bind(&c).show(); named != "" {
				add(named)
			}
		}
	}
	return list
}

// Changed lists the keys that have another value in b than in a, in the order
// of the reference file.
func Changed(a, b Config) []string {
	changed := []string{}
	for _, k := range keys() {
		was, is := k.bind(&a), k.bind(&b)
		tell := func(v value) string {
			if v.raw != nil {
				return v.raw()
			}
			return v.show()
		}
		if tell(was) != tell(is) {
			changed = append(changed, k.path)
		}
	}
	return changed
}

// Keys lists the path of every key, in the order of the reference file.
func Keys() []string {
	var paths []string
	for _, k := range keys() {
		paths = append(paths, k.path)
	}
	return paths
}
