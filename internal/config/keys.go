package config

import (
	"strings"
	"time"
)

// key is one row of the table that is the configuration: everything that is
// known about a key is here, and nothing about it is anywhere else.
type key struct {
	path     string
	fallback string // the default, as it would be written
	bind     func(c *Config) value

	// env lists further names it has in the environment, besides the one made
	// from its path: those of the existing system.
	env []envName

	// secret keys may also come from NAME_FILE or a systemd credential.
	secret     bool
	credential string

	// plain reports that this value of a secret key holds nothing to hide, and
	// may stand in a file that everyone can read; nil: none does.
	plain func(text string) bool

	// fileOf is set for a key that names the file of a secret.
	fileOf string
}

// envName is a name in the environment and how its text reads in a file.
type envName struct {
	name string
	unit string // appended to the text
}

// names lists all names of a key in the environment.
func (k key) names() []envName {
	own := "AVOQADO_EDGE_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
	return append([]envName{{name: own}}, k.env...)
}

func named(name string) []envName { return []envName{{name: name}} }

// The origins the existing system lets in (contract §1.7).
const defaultOrigins = "https://www.dashboard.avoqado.io, https://dashboard.avoqado.io, " +
	"https://www.demo.avoqado.io, https://demo.avoqado.io, " +
	"https://avoqado.io, https://www.avoqado.io, https://avo-demo.onrender.com"

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
	tib = int64(1) << 40
)

// keys returns the table, in the order of the reference file.
//
//nolint:funlen // One row per key.
func keys() []key {
	return []key{
		{path: "box.id", bind: func(c *Config) value { return str(&c.Box.ID, identifier) }},
		{path: "box.venue", bind: func(c *Config) value { return str(&c.Box.Venue, identifier, realVenue) }},
		{path: "box.name", bind: func(c *Config) value { return str(&c.Box.Name, line(64)) }},

		{path: "state_dir", fallback: "/var/lib/avoqado-edge", bind: func(c *Config) value { return filled(&c.StateDir, absolute) }},
		{path: "socket", bind: func(c *Config) value { return str(&c.Socket, absolute, socketPath) }},

		{path: "lan.listen", fallback: ":8080", bind: func(c *Config) value { return filled(&c.LAN.Listen, address) }},
		{path: "lan.cors_origins", fallback: defaultOrigins, bind: func(c *Config) value { return words(&c.LAN.CORSOrigins, webOrigin) }},
		// Clients wait for interval + timeout before they call a box dead; the
		// defaults are those of the existing server. The Socket.IO library ends
		// a connection that is silent for 120 s, so a ping must come well before.
		{path: "lan.ping_interval", fallback: "25s", bind: func(c *Config) value { return duration(&c.LAN.PingInterval, time.Second, time.Minute) }},
		{path: "lan.ping_timeout", fallback: "20s", bind: func(c *Config) value { return duration(&c.LAN.PingTimeout, time.Second, time.Minute) }},
		{path: "lan.transport", fallback: "fast", bind: func(c *Config) value { return choice(&c.LAN.Transport, TransportFast, TransportLibrary) }},
		{path: "lan.pos_hub", fallback: "false", bind: func(c *Config) value { return flag(&c.LAN.POSHub) }},
		{path: "lan.tls", fallback: "off", bind: func(c *Config) value { return choice(&c.LAN.TLS, TLSOff, TLSAuto, TLSFiles) }},
		{path: "lan.tls_cert_file", bind: func(c *Config) value { return str(&c.LAN.TLSCertFile, absolute, readable) }},
		{path: "lan.tls_key_file", bind: func(c *Config) value { return str(&c.LAN.TLSKeyFile, absolute, private) }},
		{path: "lan.tls_names", bind: func(c *Config) value { return words(&c.LAN.TLSNames, hostName) }},

		// Terminals of today ask for the name that they were built with.
		{path: "lan.allowed_hosts", fallback: "api.avoqado.io", bind: func(c *Config) value { return words(&c.LAN.AllowedHosts, hostName) }},

		{
			path: "limits.max_connections", fallback: "500", env: named("SOCKET_MAX_CONNECTIONS"),
			bind: func(c *Config) value { return number(&c.Limits.MaxConnections, 1, 10_000) },
		},
		{
			path: "limits.rate_window", fallback: "15m", env: []envName{{name: "SOCKET_RATE_LIMIT_WINDOW_MS", unit: "ms"}},
			bind: func(c *Config) value { return duration(&c.Limits.RateWindow, time.Second, 24*time.Hour) },
		},
		// A terminal sends at most two logs a second, four events per payment and
		// a heartbeat now and then: some 2,200 in a window. Thirteen times that
		// leaves room for what it kept while it was away; a loop without end is
		// held to 33 a second.
		{
			path: "limits.max_events_per_window", fallback: "30000", env: named("SOCKET_MAX_EVENTS_PER_WINDOW"),
			bind: func(c *Config) value { return number(&c.Limits.MaxEventsPerWindow, 0, 1_000_000) },
		},
		// Behind a router in NAT mode a whole venue is one address. The largest
		// have 15 sockets, 33,000 events at their busiest: nine times that.
		{
			path: "limits.max_events_per_address", fallback: "300000",
			bind: func(c *Config) value { return number(&c.Limits.MaxEventsPerAddress, 0, 10_000_000) },
		},

		{
			path: "auth.access_token_secret", secret: true, credential: "access_token_secret", env: named("ACCESS_TOKEN_SECRET"),
			bind: func(c *Config) value { return secret(&c.Auth.AccessTokenSecret, signingSecret) },
		},
		{
			path: "auth.access_token_secret_file", fileOf: "auth.access_token_secret",
			bind: func(c *Config) value { return str(&c.Auth.AccessTokenSecretFile, absolute) },
		},
		{
			path: "auth.previous_secret", secret: true, credential: "access_token_secret_previous", env: named("ACCESS_TOKEN_SECRET_PREVIOUS"),
			bind: func(c *Config) value { return secret(&c.Auth.PreviousSecret, signingSecret) },
		},
		{
			path: "auth.previous_secret_file", fileOf: "auth.previous_secret",
			bind: func(c *Config) value { return str(&c.Auth.PreviousSecretFile, absolute) },
		},

		{path: "auth.jwks_file", bind: func(c *Config) value { return str(&c.Auth.JWKSFile, absolute) }},
		{path: "auth.jwks_url", bind: func(c *Config) value { return str(&c.Auth.JWKSURL, keyURL) }},
		{path: "auth.issuers", bind: func(c *Config) value { return words(&c.Auth.Issuers, line(200)) }},
		{path: "auth.audiences", bind: func(c *Config) value { return words(&c.Auth.Audiences, line(200)) }},
		// Beyond a week nobody would notice that a terminal was stolen.
		{path: "auth.offline_grace", fallback: "24h", bind: func(c *Config) value { return duration(&c.Auth.OfflineGrace, 0, 168*time.Hour) }},
		{path: "auth.offline_role", bind: func(c *Config) value { return str(&c.Auth.OfflineRole, staffRole) }},

		{path: "uplink.brokers", bind: func(c *Config) value { return words(&c.Uplink.Brokers, brokerURL) }},
		{path: "uplink.prefix", bind: func(c *Config) value { return str(&c.Uplink.Prefix, topicPrefix) }},
		{path: "uplink.confirm", fallback: "backend", bind: func(c *Config) value { return choice(&c.Uplink.Confirm, ConfirmBackend, ConfirmBroker) }},
		{path: "uplink.username", bind: func(c *Config) value { return str(&c.Uplink.Username, line(1024)) }},
		{
			path: "uplink.password", secret: true, credential: "mqtt_password",
			bind: func(c *Config) value { return secret(&c.Uplink.Password) },
		},
		{
			path: "uplink.password_file", fileOf: "uplink.password",
			bind: func(c *Config) value { return str(&c.Uplink.PasswordFile, absolute) },
		},
		{path: "uplink.ca_file", bind: func(c *Config) value { return str(&c.Uplink.CAFile, absolute, readable) }},
		{path: "uplink.cert_file", bind: func(c *Config) value { return str(&c.Uplink.CertFile, absolute, readable) }},
		{path: "uplink.key_file", bind: func(c *Config) value { return str(&c.Uplink.KeyFile, absolute, private) }},
		{
			path: "uplink.proxy", secret: true, plain: plainProxy, credential: "uplink_proxy",
			bind: func(c *Config) value { return secret(&c.Uplink.Proxy, proxyURL) },
		},
		{
			path: "uplink.proxy_file", fileOf: "uplink.proxy",
			bind: func(c *Config) value { return str(&c.Uplink.ProxyFile, absolute) },
		},
		{path: "uplink.probe", bind: func(c *Config) value { return str(&c.Uplink.Probe, probeURL) }},
		{path: "uplink.live", fallback: "true", bind: func(c *Config) value { return flag(&c.Uplink.Live) }},
		{path: "uplink.compress", fallback: "false", bind: func(c *Config) value { return flag(&c.Uplink.Compress) }},
		// Below 5 s a mobile uplink is dropped for nothing; above 10 min a dead
		// one goes unnoticed for longer than routers keep their NAT entries.
		{path: "uplink.keepalive", fallback: "30s", bind: func(c *Config) value { return duration(&c.Uplink.KeepAlive, 5*time.Second, 10*time.Minute) }},

		// A segment is mapped into memory as a whole: 32-bit boards have room
		// for a few of these sizes, not for larger ones.
		{path: "journal.segment_bytes", fallback: "32MiB", bind: func(c *Config) value { return size(&c.Journal.SegmentBytes, mib, 256*mib) }},
		{path: "journal.retain_for", fallback: "168h", bind: func(c *Config) value { return duration(&c.Journal.RetainFor, time.Hour, 8760*time.Hour) }},
		{path: "journal.retain_bytes", fallback: "1GiB", bind: func(c *Config) value { return size(&c.Journal.RetainBytes, 2*mib, tib) }},

		{path: "journal.max_bytes", fallback: "0", bind: func(c *Config) value { return size(&c.Journal.MaxBytes, 0, tib) }},
		{path: "journal.max_events", fallback: "0", bind: func(c *Config) value { return number(&c.Journal.MaxEvents, 0, 1_000_000_000) }},
		{path: "journal.ballast_bytes", fallback: "32MiB", bind: func(c *Config) value { return size(&c.Journal.BallastBytes, 0, gib) }},

		{path: "storage.endurance", fallback: "0", bind: func(c *Config) value { return endurance(&c.Storage.Endurance) }},

		{path: "discovery.mode", fallback: "auto", bind: func(c *Config) value {
			return choice(&c.Discovery.Mode, DiscoveryAuto, DiscoveryAvahi, DiscoveryBuiltin, DiscoveryOff)
		}},
		{path: "discovery.interfaces", bind: func(c *Config) value { return words(&c.Discovery.Interfaces, interfaceName) }},

		{
			path: "redis.url", secret: true, credential: "redis_url", env: named("REDIS_URL"),
			bind: func(c *Config) value { return secret(&c.Redis.URL, redisURL) },
		},
		{
			path: "redis.url_file", fileOf: "redis.url",
			bind: func(c *Config) value { return str(&c.Redis.URLFile, absolute) },
		},
		{path: "redis.host", env: named("REDIS_HOST"), bind: func(c *Config) value { return str(&c.Redis.Host, line(253)) }},
		{path: "redis.port", fallback: "6379", env: named("REDIS_PORT"), bind: func(c *Config) value { return number(&c.Redis.Port, 1, 65535) }},
		{
			path: "redis.password", secret: true, credential: "redis_password", env: named("REDIS_PASSWORD"),
			bind: func(c *Config) value { return secret(&c.Redis.Password) },
		},
		{
			path: "redis.password_file", fileOf: "redis.password",
			bind: func(c *Config) value { return str(&c.Redis.PasswordFile, absolute) },
		},
		{path: "redis.db", fallback: "0", env: named("REDIS_DB"), bind: func(c *Config) value { return number(&c.Redis.DB, 0, 255) }},

		{path: "log.level", fallback: "info", bind: func(c *Config) value { return logLevel(&c.Log.Level) }},
		{path: "log.format", fallback: "auto", bind: func(c *Config) value { return choice(&c.Log.Format, LogAuto, LogText, LogJSON) }},
	}
}
