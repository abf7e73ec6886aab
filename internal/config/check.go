package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// minSecret is the shortest secret the existing system takes, in bytes.
	minSecret = 16

	// maxSocketPath is what sun_path of a unix socket address holds, in bytes.
	maxSocketPath = 107

	// minCap is what a journal needs to be of use, in bytes.
	minCap = 16 * mib

	// maxPrefix keeps a topic well below the limits brokers set, in bytes.
	maxPrefix = 200
)

// identifier lets through what may be one level of an MQTT topic and can
// never widen it.
func identifier(s string) error {
	if len(s) > 64 || strings.ContainsFunc(s, notInIdentifier) {
		return fmt.Errorf("%q is not 1 to 64 letters, digits, _ or -", s)
	}
	return nil
}

func notInIdentifier(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
		return false
	}
	return true
}

// realVenue refuses the venue ids that tokens of people without one carry.
func realVenue(s string) error {
	if s == "pending" || s == "pending-invitation" {
		return fmt.Errorf("%q stands for people who have no venue yet", s)
	}
	return nil
}

// line lets through one line of text of at most so many bytes.
func line(most int) func(string) error {
	return func(s string) error {
		if !utf8.ValidString(s) || len(s) > most || strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("%q is not one line of at most %d bytes", s, most)
		}
		return nil
	}
}

func absolute(s string) error {
	// Without a drive it is a path on the one that the program is on.
	if !filepath.IsAbs(s) && (runtime.GOOS != "windows" || !strings.HasPrefix(s, "/")) {
		return fmt.Errorf("%q does not begin at the root; a service has no current folder", s)
	}
	return nil
}

func socketPath(s string) error {
	if len(s) > maxSocketPath {
		return fmt.Errorf("%q is %d bytes long, a socket's path holds %d", s, len(s), maxSocketPath)
	}
	return nil
}

func address(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address such as :8080 or 192.168.1.10:8080", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port from 0 to 65535", s)
	} else if port != strconv.FormatUint(n, 10) {
		return fmt.Errorf("%q has an odd port; write %d", s, n)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return fmt.Errorf("%q listens on a name; write an IP address or none", s)
	}
	return nil
}

func webOrigin(s string) error {
	if s == "*" {
		return errors.New(`"*" lets any page use the box with a visitor's cookie; name the origins`)
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" ||
		u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q is not an origin such as https://dashboard.example.com", s)
	}
	return nil
}

// brokerURL does not repeat the URL: it may hold a password.
func brokerURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return errors.New("holds no URL such as tls://mqtt.example.com:8883")
	}
	switch u.Scheme {
	case "tcp", "mqtt", "tls", "ssl", "mqtts", "ws", "wss":
	default:
		return fmt.Errorf("scheme %q is none of tcp, mqtt, tls, ssl, mqtts, ws, wss", u.Scheme)
	}
	if u.User != nil {
		return errors.New("holds a user in the URL; use uplink.username and uplink.password")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("port %s is not within 1 and 65535", p)
		}
	}
	return nil
}

// proxyURL does not repeat the URL: it may hold a password.
func proxyURL(s string) error {
	u, err := url.Parse(s)
	if s != "direct" && (err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Path != "" && u.Path != "/") {
		return errors.New("is neither a URL such as http://proxy.example.com:3128 nor direct")
	}
	return nil
}

func plainProxy(s string) bool { return !strings.Contains(s, "@") }

func probeURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("%q is not a URL such as http://connectivity-check.example.com/: a portal shows itself without TLS only", s)
	}
	return nil
}

// keyURL asks for TLS: whoever is on the way could put keys of their own into
// the answer.
func keyURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return errors.New("is not a URL such as https://api.example.com/.well-known/jwks.json")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if here := u.Hostname() == "localhost" || err == nil && ip.IsLoopback(); u.Scheme != "https" && (u.Scheme != "http" || !here) {
		return errors.New("does not begin with https://: somebody on the way could put keys of their own into the answer")
	}
	return nil
}

// staffRole knows the roles of the existing system (contract §5).
func staffRole(s string) error {
	roles := []string{"SUPERADMIN", "OWNER", "ADMIN", "MANAGER", "WAITER", "CASHIER", "KITCHEN", "HOST", "VIEWER"}
	if !slices.Contains(roles, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(roles, ", "))
	}
	return nil
}

func usesTLS(broker string) bool {
	scheme, _, _ := strings.Cut(broker, ":")
	return slices.Contains([]string{"tls", "ssl", "mqtts", "wss"}, scheme)
}

// topicPrefix refuses a level with a dot, too: RabbitMQ and NATS give it a
// meaning.
func topicPrefix(s string) error {
	if len(s) > maxPrefix {
		return fmt.Errorf("is %d bytes long, %d are allowed", len(s), maxPrefix)
	}
	for level := range strings.SplitSeq(s, "/") {
		if level == "" || strings.ContainsFunc(level, notInIdentifier) {
			return fmt.Errorf("%q is not levels of letters, digits, _ or - between single slashes", s)
		}
	}
	return nil
}

// hostName lets through a DNS name in lower case.
func hostName(s string) error {
	for label := range strings.SplitSeq(s, ".") {
		odd := strings.ContainsFunc(label, func(r rune) bool { return notInIdentifier(r) || r != unicode.ToLower(r) })
		if label == "" || len(label) > 63 || odd || strings.Trim(label, "-") != label {
			return fmt.Errorf("%q is not a DNS name such as box.example.com, in lower case", s)
		}
	}
	if _, err := netip.ParseAddr(s); err == nil || len(s) > 253 {
		return fmt.Errorf("%q is not a DNS name; addresses are found by themselves", s)
	}
	return nil
}

func interfaceName(s string) error {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r == '/' || unicode.IsControl(r) }) {
		return fmt.Errorf("%q is not the name of a network interface", s)
	}
	return nil
}

// signingSecret does not repeat the secret.
func signingSecret(s string) error {
	if len(s) < minSecret {
		return fmt.Errorf("is %d characters long, at least %d are needed", len(s), minSecret)
	}
	return nil
}

// placeholder reports whether a secret was probably meant to be replaced.
func placeholder(s string) bool {
	s = strings.ToLower(s)
	some := make(map[rune]bool)
	for _, r := range s {
		some[r] = true
	}
	few := s != "" && len(some) < 6
	return few || strings.HasPrefix(s, "$") || strings.HasPrefix(s, "<") ||
		slices.ContainsFunc([]string{"changeme", "change-me", "change_me", "change this", "replace", "placeholder", "example", "your-", "your_", "access_token_secret"},
			func(word string) bool { return strings.Contains(s, word) })
}

// redisURL does not repeat the URL: it may hold a password.
func redisURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Host == "" || u.RawQuery != "" || !isDatabase(u.Path) {
		return errors.New("is not a URL such as redis://127.0.0.1:6379/0")
	}
	return nil
}

// isDatabase reports whether the path of a URL is none or the number of a
// database.
func isDatabase(path string) bool {
	number := strings.TrimPrefix(path, "/")
	n, err := strconv.Atoi(number)
	return number == "" || (err == nil && n >= 0 && strconv.Itoa(n) == number)
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// private refuses a file everybody on the machine can read.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		return fmt.Errorf("%s can be read by everyone; chmod 0640 it", path)
	}
	return readable(path)
}

// whole checks what no key can know of itself.
func (l *loader) whole(c *Config) {
	if c.Box.Venue == "" {
		l.missing("box.venue", "is needed: the id of the venue this box serves")
	}
	if c.Auth.AccessTokenSecret == "" && c.Auth.JWKSFile == "" && c.Auth.JWKSURL == "" {
		l.missing("auth.access_token_secret", "is needed: the ACCESS_TOKEN_SECRET of the back-end, "+
			"best in a file named by auth.access_token_secret_file; or auth.jwks_url or auth.jwks_file, if all tokens are signed with keys")
	}
	if c.Auth.PreviousSecret != "" && c.Auth.PreviousSecret == c.Auth.AccessTokenSecret {
		l.wrong(c, "auth.previous_secret", "is the same as auth.access_token_secret")
	}
	if c.Uplink.Password != "" && c.Uplink.Username == "" {
		l.wrong(c, "uplink.password", "is set, and uplink.username is not")
	}
	if c.Uplink.CertFile != "" && c.Uplink.KeyFile == "" {
		l.wrong(c, "uplink.cert_file", "is set, and uplink.key_file is not")
	}
	if c.Uplink.KeyFile != "" && c.Uplink.CertFile == "" {
		l.wrong(c, "uplink.key_file", "is set, and uplink.cert_file is not")
	}
	if c.LAN.TLS == TLSFiles && (c.LAN.TLSCertFile == "" || c.LAN.TLSKeyFile == "") {
		l.wrong(c, "lan.tls", "is files, and lan.tls_cert_file or lan.tls_key_file is not set")
	}
	if c.Journal.RetainBytes < 2*c.Journal.SegmentBytes {
		l.wrong(c, "journal.retain_bytes", fmt.Sprintf("%s is below two segments of %s",
			showSize(c.Journal.RetainBytes), showSize(c.Journal.SegmentBytes)))
	}
	if m := c.Journal.MaxBytes; m > 0 && m < minCap {
		l.wrong(c, "journal.max_bytes", fmt.Sprintf("%s is below %s, and 0 is no limit", showSize(m), showSize(minCap)))
	}
	if len(c.Socket) > maxSocketPath {
		l.wrong(c, "state_dir", fmt.Sprintf("makes the socket's path %d bytes long, it holds %d; set socket",
			len(c.Socket), maxSocketPath))
	}
}

// warn collects what is allowed but probably not meant.
func (l *loader) warn(c *Config) {
	tell := func(format string, args ...any) { c.warnings = append(c.warnings, fmt.Sprintf(format, args...)) }
	if c.Redis.URL != "" && c.Redis.Host != "" {
		tell("redis.url is set, so redis.host, port, password and db do not count")
	}
	if len(c.Uplink.Brokers) == 0 {
		tell("uplink.brokers is empty: the box keeps everything and sends nothing to the cloud")
	}
	if c.LAN.TLS != TLSFiles && c.LAN.TLSCertFile+c.LAN.TLSKeyFile != "" {
		tell("lan.tls_cert_file and lan.tls_key_file do not count: lan.tls is %s", c.LAN.TLS)
	}
	if c.LAN.TLS != TLSAuto && len(c.LAN.TLSNames) > 0 {
		tell("lan.tls_names does not count: lan.tls is %s", c.LAN.TLS)
	}
	plain := 0
	for _, broker := range c.Uplink.Brokers {
		if !usesTLS(broker) {
			plain++
		}
	}
	if plain > 0 && c.Uplink.Password != "" {
		tell("uplink.password goes over the network unencrypted: a broker has no TLS")
	}
	if plain == len(c.Uplink.Brokers) && c.Uplink.CAFile+c.Uplink.CertFile != "" {
		tell("uplink.ca_file and cert_file are set, and no broker uses TLS")
	}
	for _, s := range []struct {
		path   string
		secret Secret
	}{{"auth.access_token_secret", c.Auth.AccessTokenSecret}, {"auth.previous_secret", c.Auth.PreviousSecret}} {
		if placeholder(s.secret.Reveal()) {
			tell("%s looks like a placeholder: whoever guesses it can make tokens for anybody", s.path)
		}
	}
	for _, k := range keys() {
		if o := c.origins[k.path]; k.secret && o.level == fromFile && o.file == "" && (k.plain == nil || !k.plain(l.entries[k.path].text)) {
			tell("%s stands in %s itself; a file of its own, named by %s_file, is safer to copy around", k.path, o.source, k.path)
		}
	}
}
