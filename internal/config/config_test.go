package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/configs"
	"github.com/avoqado/avoqado-edge/internal/config"
)

const secret = "sixteen-or-more-characters"

// environment answers as the process environment would, from a map.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	s, ok := e[name]
	return s, ok
}

// write puts a configuration into a file of its own and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	return writeAs(t, "config.yaml", content, 0o600)
}

func writeAs(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

// base is a file that is right, for tests of one more key.
const base = "box: {venue: venue_1}\nauth: {access_token_secret: " + secret + "}\n"

func load(t *testing.T, content string, env environment, flags map[string]string) config.Config {
	t.Helper()
	c, err := config.Load(write(t, content), env.lookup, flags)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems loads what is wrong and returns what is said about it.
func problems(t *testing.T, path string, env environment, flags map[string]string) []string {
	t.Helper()
	_, err := config.Load(path, env.lookup, flags)
	if err == nil {
		t.Fatal("no problem found")
	}
	var all *config.Error
	if !errors.As(err, &all) {
		t.Fatalf("error is a %T: %v", err, err)
	}
	var said []string
	for _, p := range all.Problems {
		said = append(said, p.String())
	}
	return said
}

func effective(t *testing.T, c config.Config, path string) config.Line {
	t.Helper()
	for _, l := range config.Effective(c) {
		if l.Path == path {
			return l
		}
	}
	t.Fatalf("no key %s", path)
	return config.Line{}
}

func TestDefaults(t *testing.T) {
	c := load(t, base, nil, nil)
	for _, l := range config.Effective(c) {
		if l.Origin != "default" && l.Path != "box.venue" && l.Path != "auth.access_token_secret" {
			t.Errorf("%+v is no default", l)
		}
	}
	got := fmt.Sprintf("%s %s %s %v %s %s %s %d %s %d %d %v %s %s %t %s %d %s %d %s %v %d %d %s %s %d %d %d %d",
		c.StateDir, c.Socket, c.LAN.Listen, len(c.LAN.CORSOrigins), c.LAN.PingInterval, c.LAN.PingTimeout, c.LAN.Transport,
		c.Limits.MaxConnections, c.Limits.RateWindow, c.Limits.MaxEventsPerWindow, c.Limits.MaxEventsPerAddress,
		c.Uplink.Brokers, c.Uplink.Prefix, c.Uplink.Confirm, c.Uplink.Compress, c.Uplink.KeepAlive,
		c.Journal.SegmentBytes, c.Journal.RetainFor, c.Journal.RetainBytes,
		c.Discovery.Mode, c.Discovery.Interfaces, c.Redis.Port, c.Redis.DB, c.Log.Level, c.Log.Format,
		c.Journal.MaxBytes, c.Journal.MaxEvents, c.Journal.BallastBytes, c.Storage.Endurance)
	want := "/var/lib/avoqado-edge /var/lib/avoqado-edge/avoqado-edge.sock :8080 7 25s 20s fast " +
		"500 15m0s 30000 300000 [] avoqado/v1/venues/venue_1 backend false 30s 33554432 168h0m0s 1073741824 " +
		"auto [] 6379 0 INFO auto 0 0 33554432 0"
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// TestEveryKey gives every key a value other than its default, in the file
// and in the environment, and finds it in the result.
func TestEveryKey(t *testing.T) {
	pem := writeAs(t, "x.pem", "x", 0o600)
	held := writeAs(t, "secret", "a secret kept in a file\n", 0o600)
	values := map[string]string{ // in YAML; the environment says it without quotes and brackets
		"box.id": "box_1", "box.venue": "venue_2", "box.name": "Caja 1",
		"state_dir": "/srv/edge", "socket": "/run/edge.sock",
		"lan.listen": "127.0.0.1:0", "lan.cors_origins": "[https://a.example, http://localhost:5173]",
		"lan.ping_interval": "10s", "lan.ping_timeout": "5s", "lan.transport": "library", "lan.allowed_hosts": "[box.example.com, caja]",
		"lan.pos_hub": "true", "lan.tls": "auto", "lan.tls_cert_file": pem, "lan.tls_key_file": pem, "lan.tls_names": "[box.example.com, caja]",
		"limits.max_connections": "20", "limits.rate_window": "30m", "limits.max_events_per_window": "100",
		"limits.max_events_per_address": "1000",
		"auth.access_token_secret":      "another secret of a good length", "auth.access_token_secret_file": held,
		"auth.jwks_file": pem, "auth.jwks_url": "https://keys.example/jwks.json", "auth.issuers": "[a, b]", "auth.audiences": "[c, d]",
		"auth.offline_grace": "12h", "auth.offline_role": "WAITER",
		"auth.previous_secret": "the secret that was before it", "auth.previous_secret_file": held,
		"uplink.brokers": "[tls://a.example:8883, tcp://b.example:1883]", "uplink.prefix": "edge/v1",
		"uplink.confirm": "broker", "uplink.username": "box_1", "uplink.password": "0123",
		"uplink.password_file": held, "uplink.ca_file": pem, "uplink.cert_file": pem, "uplink.key_file": pem,
		"uplink.proxy": "http://box:pw@proxy.example:3128", "uplink.proxy_file": writeAs(t, "proxy", "http://prx.example:3128\n", 0o600),
		"uplink.probe": "http://check.example/204", "uplink.compress": "true", "uplink.live": "false", "uplink.keepalive": "60s",
		"journal.segment_bytes": "1MiB", "journal.retain_for": "24h", "journal.retain_bytes": "2GiB",
		"journal.max_bytes": "4GiB", "journal.max_events": "5000000", "journal.ballast_bytes": "8MiB",
		"storage.endurance": "30TB",
		"discovery.mode":    "builtin", "discovery.interfaces": "[eth0, wlan0]",
		"redis.url": "redis://:pw@127.0.0.1:6379/1", "redis.url_file": writeAs(t, "redis", "redis://cache.example/1\n", 0o600), "redis.password_file": held, "redis.host": "127.0.0.1", "redis.port": "6380",
		"redis.password": "pw", "redis.db": "2", "log.level": "debug", "log.format": "json",
	}
	needs := map[string]map[string]string{
		"uplink.password": {"uplink.username": "u"}, "uplink.password_file": {"uplink.username": "u"},
		"uplink.cert_file": {"uplink.key_file": pem}, "uplink.key_file": {"uplink.cert_file": pem},
	}
	for _, path := range config.Keys() {
		v, ok := values[path]
		if !ok {
			t.Errorf("%s: no value to test it with", path)
			continue
		}
		plain := strings.Trim(v, "[]")
		flags := map[string]string{}
		if path != "box.venue" {
			flags["box.venue"] = "venue_1"
		}
		if !strings.HasPrefix(path, "auth.access") {
			flags["auth.access_token_secret"] = secret
		}
		maps.Copy(flags, needs[path])

		name, key, nested := strings.Cut(path, ".")
		content := path + ": " + v + "\n"
		if nested {
			content = name + ":\n  " + key + ": " + v + "\n"
		}
		fromFile, err := config.Load(write(t, content), environment{}.lookup, flags)
		if err != nil {
			t.Errorf("%s in the file: %v", path, err)
			continue
		}
		checkChanged(t, path, slices.Collect(maps.Keys(needs[path])), fromFile)
		line := effective(t, fromFile, path)
		if want := fmt.Sprintf("config.yaml:%d", strings.Count(content, "\n")); line.Origin != want {
			t.Errorf("%s: comes from %s, want %s", path, line.Origin, want)
		}
		if line.Value != plain && line.Value != fmt.Sprintf("*** (%d characters)", len(plain)) {
			t.Errorf("%s: %q became %q", path, plain, line.Value)
		}

		env := environment{"AVOQADO_EDGE_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_")): plain}
		fromEnv, err := config.Load("", env.lookup, flags)
		if err != nil {
			t.Errorf("%s in the environment: %v", path, err)
			continue
		}
		if strings.HasSuffix(path, "_secret_file") || strings.HasSuffix(path, ".password_file") || path == "redis.url_file" || path == "uplink.proxy_file" {
			path = strings.TrimSuffix(path, "_file") // NAME_FILE gives the secret itself
			line = config.Line{Value: fmt.Sprintf("*** (%d characters)", len("a secret kept in a file"))}
		}
		if got := effective(t, fromEnv, path); got.Value != line.Value || !strings.HasPrefix(got.Origin, "environment AVOQADO_EDGE_") {
			t.Errorf("%s in the environment: %+v, want %s", path, got, line.Value)
		}
	}
}

func TestEveryFieldHasAKey(t *testing.T) {
	fields := 0
	var count func(v reflect.Type)
	count = func(v reflect.Type) {
		for f := range v.Fields() {
			switch {
			case !f.IsExported():
			case f.Type.Kind() == reflect.Struct:
				count(f.Type)
			default:
				if f.Type.Kind() == reflect.Pointer {
					t.Errorf("%s is a pointer", f.Name)
				}
				fields++
			}
		}
	}
	count(reflect.TypeFor[config.Config]())
	if keys := len(config.Keys()); keys != fields {
		t.Errorf("%d keys for %d fields", keys, fields)
	}
}

func TestSeedEnvironment(t *testing.T) {
	c, err := config.Load("", environment{
		"AVOQADO_EDGE_BOX_VENUE":       "venue_1",
		"ACCESS_TOKEN_SECRET":          secret,
		"REDIS_URL":                    "redis://cache:6379/3",
		"REDIS_HOST":                   "cache",
		"REDIS_PORT":                   "6390",
		"REDIS_PASSWORD":               "0042",
		"REDIS_DB":                     "7",
		"SOCKET_RATE_LIMIT_WINDOW_MS":  "900000",
		"SOCKET_MAX_CONNECTIONS":       "12",
		"SOCKET_MAX_EVENTS_PER_WINDOW": "100",
	}.lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Auth.AccessTokenSecret.Reveal() != secret || c.Redis.URL.Reveal() != "redis://cache:6379/3" ||
		c.Redis.Host != "cache" || c.Redis.Port != 6390 || c.Redis.Password.Reveal() != "0042" || c.Redis.DB != 7 ||
		c.Limits.RateWindow != 15*time.Minute || c.Limits.MaxConnections != 12 || c.Limits.MaxEventsPerWindow != 100 {
		t.Fatalf("got %+v", c)
	}
	if got := c.Redis.Target().Reveal(); got != "redis://cache:6379/3" {
		t.Errorf("the boxes meet at %s", got)
	}
	c.Redis.URL = ""
	if got := c.Redis.Target().Reveal(); got != "redis://:0042@cache:6390/7" {
		t.Errorf("by its parts the boxes meet at %s", got)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "redis.host, port, password and db do not count") {
		t.Errorf("warnings: %s", w)
	}
	if l := effective(t, c, "limits.rate_window"); l.Value != "15m" || l.Origin != "environment SOCKET_RATE_LIMIT_WINDOW_MS" {
		t.Errorf("got %+v", l)
	}
}

func TestEmptyEnvironmentIsUnset(t *testing.T) {
	c := load(t, base, environment{
		"ACCESS_TOKEN_SECRET": "", "SOCKET_MAX_CONNECTIONS": "", "REDIS_URL": "", "REDIS_PORT": "",
		"AVOQADO_EDGE_LAN_LISTEN": "", "ACCESS_TOKEN_SECRET_FILE": "", "CREDENTIALS_DIRECTORY": "",
		"SOCKET_RATE_LIMIT_WINDOW_MS": "",
	}, nil)
	if c.Limits.MaxConnections != 500 || c.Redis.Port != 6379 || c.LAN.Listen != ":8080" {
		t.Fatalf("got %+v", c)
	}
}

func TestPrecedence(t *testing.T) {
	file := base + "limits: {max_connections: 1}\nlan: {listen: ':1'}\nlog: {level: debug}\n"
	env := environment{"SOCKET_MAX_CONNECTIONS": "2", "AVOQADO_EDGE_LAN_LISTEN": ":2"}
	c := load(t, file, env, map[string]string{"lan.listen": ":3"})
	if c.LAN.Listen != ":3" || c.Limits.MaxConnections != 2 || c.Log.Level != slog.LevelDebug || c.Log.Format != config.LogAuto {
		t.Fatalf("got %+v", c)
	}
	for path, want := range map[string]string{
		"lan.listen": "flag", "limits.max_connections": "environment SOCKET_MAX_CONNECTIONS",
		"log.level": "config.yaml:5", "log.format": "default",
	} {
		if l := effective(t, c, path); l.Origin != want {
			t.Errorf("%s comes from %s, want %s", path, l.Origin, want)
		}
	}
}

func TestRuntimeDirectoryHoldsTheSocket(t *testing.T) {
	c := load(t, base, environment{"RUNTIME_DIRECTORY": "/run/avoqado-edge:/run/other"}, nil)
	if c.Socket != "/run/avoqado-edge/avoqado-edge.sock" {
		t.Errorf("socket is %s", c.Socket)
	}
	if c = load(t, base+"socket: /tmp/s\n", environment{"RUNTIME_DIRECTORY": "/run/x"}, nil); c.Socket != "/tmp/s" {
		t.Errorf("socket is %s", c.Socket)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	path := write(t, `box:
  venue: "venue 1"
  nmae: Caja
lan:
  listen: 8080
  ping_interval: 30
limits:
  max_connections: many
uplink:
  brokers: tls://a.example:8883
  compress: yes please
  keepalive: 900s
journal:
  segment_bytes: 1.5GiB
keepalive: 30s
uplnik: {confirm: broker}
`)
	got := problems(t, path, environment{"SOCKET_MAX_EVENTS_PER_WINDOW": "abc", "SOCKET_RATE_LIMIT_WINDOW_MS": "15m"},
		map[string]string{"log.level": "loud", "log.colour": "true"})
	want := []string{
		`config.yaml:2: box.venue: "venue 1" is not 1 to 64 letters, digits, _ or -`,
		`config.yaml:3: box.nmae: unknown key; did you mean box.name?`,
		`config.yaml:5: lan.listen: "8080" is not an address such as :8080 or 192.168.1.10:8080`,
		`config.yaml:6: lan.ping_interval: 30 has no unit; write 30s, 30m or 30h`,
		`config.yaml:8: limits.max_connections: is a text, a whole number is wanted`,
		`config.yaml:10: uplink.brokers: is a text, a list is wanted`,
		`config.yaml:11: uplink.compress: is a text, true or false is wanted`,
		`config.yaml:12: uplink.keepalive: 900s is above 600s`,
		`config.yaml:14: journal.segment_bytes: "1.5GiB" is not a size such as 32MiB or 1GiB`,
		`config.yaml:15: keepalive: unknown key; did you mean uplink.keepalive?`,
		`config.yaml:16: uplnik: unknown key; did you mean uplink?`,
		`environment SOCKET_RATE_LIMIT_WINDOW_MS: limits.rate_window: "15m" is not a whole number of ms`,
		`environment SOCKET_MAX_EVENTS_PER_WINDOW: limits.max_events_per_window: "abc" is not a whole number`,
		`flag: log.level: "loud" is none of debug, info, warn, error`,
		`flag: log.colour: unknown key`,
		`config.yaml: auth.access_token_secret: is needed: the ACCESS_TOKEN_SECRET of the back-end, best in a file named by auth.access_token_secret_file; or auth.jwks_url or auth.jwks_file, if all tokens are signed with keys`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\n\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestProblems tries one mistake at a time in an otherwise good file.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"not YAML":                  {"box: [", "config.yaml:"},
		"tab":                       {"lan:\n\tlisten: ':1'", "config.yaml:"},
		"twice":                     {"state_dir: /a\nstate_dir: /b", "config.yaml:4"},
		"section is a text":         {"lan: ':8080'", "lan: is a text, keys are wanted"},
		"section is a list":         {"lan: [a]", "lan: is a list, keys are wanted"},
		"key is a section":          {"state_dir: {a: b}", "state_dir: is a section, a text is wanted"},
		"second document":           {"---\nlan: {listen: ':1'}", "second document"},
		"anchor":                    {"state_dir: &a /tmp", "not supported here (anchor)"},
		"alias":                     {"lan: {listen: *a}", "config.yaml:3"},
		"tag":                       {"state_dir: !!str /tmp", "not supported here (tag)"},
		"merge key":                 {"<<: {a: b}", "not a key"},
		"number as key":             {"1: a", "not a key"},
		"nothing":                   {"state_dir:", "state_dir: has no value"},
		"true for a text":           {"state_dir: true", "put it in quotes"},
		"text for a flag":           {"uplink: {compress: 'true'}", "uplink.compress: is a text, true or false is wanted"},
		"quoted number":             {"limits: {max_connections: '5'}", "is a text, a whole number is wanted"},
		"number too low":            {"limits: {max_connections: 0}", "0 is below 1"},
		"number too high":           {"limits: {max_connections: 10001}", "10001 is above 10000"},
		"number beyond int":         {"limits: {max_connections: 99999999999999999999}", "limits.max_connections"},
		"fraction":                  {"limits: {max_connections: 1.5}", "is a number, a whole number is wanted"},
		"bad duration":              {"uplink: {keepalive: soon}", `"soon" is not a duration`},
		"negative duration":         {"uplink: {keepalive: -5s}", "-5s is below 5s"},
		"size beyond int64":         {"journal: {retain_bytes: 99999999TiB}", "99999999TiB is above 1TiB"},
		"size too low":              {"journal: {segment_bytes: 512KiB}", "512KiB is below 1MiB"},
		"negative size":             {"journal: {segment_bytes: -1MiB}", "below 1MiB"},
		"size round the corner":     {"journal: {max_bytes: -16777216TiB}", "below 0"},
		"retain below two segments": {"journal: {segment_bytes: 64MiB, retain_bytes: 100MiB}", "journal.retain_bytes: 100MiB is below two segments of 64MiB"},
		"small cap":                 {"journal: {max_bytes: 1MiB}", "journal.max_bytes: 1MiB is below 16MiB, and 0 is no limit"},
		"endurance in bytes":        {"storage: {endurance: 300}", `"300" is not 1TB to 100000TB`},
		"endurance without number":  {"storage: {endurance: TB}", `"TB" is not 1TB`},
		"endurance too high":        {"storage: {endurance: 100001TB}", `"100001TB" is not 1TB`},
		"unknown choice":            {"uplink: {confirm: maybe}", `"maybe" is none of backend, broker`},
		"unknown level":             {"log: {level: trace}", "none of debug, info, warn, error"},
		"list of sections":          {"uplink: {brokers: [{a: b}]}", "list of other things than texts"},
		"item twice":                {"uplink: {brokers: [tcp://a, tcp://a]}", "there twice"},
		"broker without host":       {"uplink: {brokers: [tls://]}", "holds no URL"},
		"broker of other scheme":    {"uplink: {brokers: ['http://a']}", `scheme "http" is none of`},
		"broker with bad port":      {"uplink: {brokers: ['tcp://a:99999']}", "not within"},
		"prefix with a wildcard":    {"uplink: {prefix: 'a/#'}", "uplink.prefix"},
		"prefix with a dot":         {"uplink: {prefix: a.b/c}", "uplink.prefix"},
		"prefix with empty level":   {"uplink: {prefix: /a}", "uplink.prefix"},
		"box id with a slash":       {"state_dir: /a\nbox_: 1", "unknown key; did you mean box?"},
		"relative folder":           {"state_dir: var", "does not begin at the root"},
		"long socket":               {"socket: /" + strings.Repeat("x", 200), "a socket's path holds 107"},
		"long state folder":         {"state_dir: /" + strings.Repeat("x", 200), "makes the socket's path"},
		"listen on a name":          {"lan: {listen: 'box.local:80'}", "listens on a name"},
		"listen without port":       {"lan: {listen: ':http'}", "has no port"},
		"any origin":                {"lan: {cors_origins: ['*']}", "any page"},
		"origin with a path":        {"lan: {cors_origins: ['https://a.example/']}", "is not an origin"},
		"interface with a slash":    {"discovery: {interfaces: [a/b]}", "network interface"},
		"missing CA":                {"uplink: {ca_file: /nowhere/ca.pem}", "/nowhere/ca.pem: no such file"},
		"password without user":     {"uplink: {password: x}", "uplink.username is not"},
		"emptied":                   {"lan: {listen: ''}", "lan.listen: is empty"},
		"previous is current":       {"AUTH: x", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, write(t, base+c.file+"\n"), nil, nil)
			if !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got\n%s\nwant %s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}

func TestVenueThatIsNone(t *testing.T) {
	file := "box: {venue: pending}\nauth: {access_token_secret: " + secret + "}\n"
	if got := problems(t, write(t, file), nil, nil); len(got) != 1 || !strings.Contains(got[0], "no venue yet") {
		t.Errorf("got %q", got)
	}
}

func TestMissingFile(t *testing.T) {
	got := problems(t, "/nowhere/config.yaml", nil, nil)
	if len(got) != 1 || got[0] != "open /nowhere/config.yaml: no such file or directory" {
		t.Errorf("got %q", got)
	}
}

func TestEditorsHabits(t *testing.T) {
	content := "\ufeff" + strings.ReplaceAll("# a comment\n"+base+"lan:\n  # nothing set here\nlog: {level: warn}\n", "\n", "\r\n")
	c := load(t, content, nil, nil)
	if c.Box.Venue != "venue_1" || c.Log.Level != slog.LevelWarn {
		t.Errorf("got %+v", c)
	}
	if l := effective(t, c, "log.level"); l.Origin != "config.yaml:6" {
		t.Errorf("log.level comes from %s", l.Origin)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	const hidden = "do-not-show-me-to-anyone"
	c := load(t, "box: {venue: v}\nauth: {access_token_secret: "+hidden+"}\n", nil, nil)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "secret", c.Auth.AccessTokenSecret, "auth", c.Auth)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", c.Auth.AccessTokenSecret, "auth", c.Auth)
	for how, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", c), "%#v": fmt.Sprintf("%#v", c),
		"String": c.Auth.AccessTokenSecret.String(), "%q": fmt.Sprintf("%q", c.Auth.AccessTokenSecret),
		"%x": fmt.Sprintf("%x", c.Auth.AccessTokenSecret), "JSON": string(asJSON), "log": logged.String(),
		"show": fmt.Sprint(config.Effective(c)),
	} {
		if strings.Contains(shown, hidden) || strings.Contains(shown, fmt.Sprintf("%x", hidden)) {
			t.Errorf("%s shows the secret: %s", how, shown)
		}
	}
	if l := effective(t, c, "auth.access_token_secret"); l.Value != "*** (24 characters)" {
		t.Errorf("shown as %q", l.Value)
	}
}

func TestProblemsDoNotRepeatSecrets(t *testing.T) {
	const hidden = "hunter2"
	path := write(t, `box: {venue: v}
auth: {access_token_secret: `+hidden+`}
uplink: {brokers: ["tcp://user:`+hidden+`@host:1883"], password: `+hidden+`}
redis: {url: "http://:`+hidden+`@host"}
`)
	all := strings.Join(problems(t, path, environment{"REDIS_URL": hidden + "://x"}, nil), "\n")
	if strings.Contains(all, hidden) {
		t.Errorf("a secret is shown:\n%s", all)
	}
	for _, want := range []string{"at least 16", "uplink.username", "redis.url"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing about %s:\n%s", want, all)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(base))
	f.Add(configs.Reference)
	f.Add([]byte("a: &a [*a]\n? b\n: - c\n--- !!x |\n  y"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path, environment{}.lookup, nil)
		var all *config.Error
		if err != nil && (!errors.As(err, &all) || len(all.Problems) == 0) {
			t.Fatalf("error %T says nothing: %v", err, err)
		}
		if err == nil && (c.Box.Venue == "" || c.Auth.AccessTokenSecret == "") {
			t.Fatalf("incomplete: %+v", c)
		}
	})
}

// A proxy's password is a secret; a proxy without one is none.
func TestProxyMayStandInTheOpen(t *testing.T) {
	text := base + "uplink:\n  proxy: %s\n"
	open := writeAs(t, "config.yaml", fmt.Sprintf(text, "http://proxy.example:3128"), 0o644)
	env := environment{"ACCESS_TOKEN_SECRET": "sixteen-or-more-characters"}
	c, err := config.Load(open, env.lookup, nil)
	if err != nil && strings.Contains(err.Error(), "uplink.proxy") {
		t.Error(err)
	}
	for _, w := range c.Warnings() {
		if strings.Contains(w, "uplink.proxy") {
			t.Errorf("warned: %s", w)
		}
	}
	secret := writeAs(t, "config.yaml", fmt.Sprintf(text, "http://box:geheim@proxy.example:3128"), 0o644)
	_, err = config.Load(secret, env.lookup, nil)
	if err == nil || !strings.Contains(err.Error(), "uplink.proxy") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("a password in the open: %v", err)
	}
}
