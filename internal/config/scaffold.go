package config

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"github.com/avoqado/avoqado-edge/configs"
)

// Answers is what a new configuration is made from.
type Answers struct {
	Venue   string // needed
	ID      string // empty: the box makes one
	Name    string
	Brokers []string // empty: no cloud

	// SecretFile is the absolute path the caller will write the secret to,
	// with mode 0600.
	SecretFile string

	// Username and PasswordFile are for the broker: the path as that of
	// SecretFile, empty for none.
	Username     string
	PasswordFile string

	// Secret is the back-end's ACCESS_TOKEN_SECRET. Empty: a fresh one, which
	// the back-end must then be given.
	Secret string
}

// Init returns a commented configuration with the answers filled in, and what
// to write to SecretFile. The configuration itself holds no secret. The error
// is an [*Error] if an answer is not right.
func Init(a Answers) (file, secret []byte, err error) {
	if a.Secret == "" {
		a.Secret = freshSecret()
	}
	file, err = fill(configs.Reference, map[string]string{
		"box.venue":                     quote(a.Venue),
		"box.id":                        optional(a.ID),
		"box.name":                      optional(a.Name),
		"uplink.brokers":                quoteList(a.Brokers),
		"uplink.username":               optional(a.Username),
		"uplink.password_file":          optional(a.PasswordFile),
		"auth.access_token_secret_file": quote(a.SecretFile),
	})
	if err != nil {
		return nil, nil, err
	}
	// Read it back as a box would, except that the secret is not there yet.
	l := loader{
		path:      "avoqado-edge.yaml",
		env:       func(string) (string, bool) { return "", false },
		overrides: map[string]string{"auth.access_token_secret": a.Secret},
	}
	if a.PasswordFile != "" { // nor is the password
		l.overrides["uplink.password"] = "anything"
	}
	l.entries, l.problems = parseFile(l.path, file)
	if a.SecretFile == "" {
		l.missing("auth.access_token_secret_file", "is needed: where the secret will be")
	}
	if _, err := l.load(); err != nil {
		return nil, nil, err
	}
	return file, []byte(a.Secret + "\n"), nil
}

// freshSecret returns 32 random bytes as text, more than HS256 can use.
func freshSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// fill sets keys in the reference file, taking the "#" off those that are
// commented out. Values are YAML; an empty one leaves its line as it is.
func fill(reference []byte, values map[string]string) ([]byte, error) {
	keyLine := regexp.MustCompile(`^( *)#?([a-z_]+):`)
	lines := strings.Split(string(reference), "\n")
	inSection, done := "", 0
	for i, text := range lines {
		m := keyLine.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		path := m[2]
		if m[1] == "" {
			inSection = m[2] + "."
		} else {
			path = inSection + m[2]
		}
		v, ok := values[path]
		if !ok {
			continue
		}
		done++
		if v != "" {
			lines[i] = m[1] + m[2] + ": " + v
		}
	}
	if done != len(values) {
		return nil, fmt.Errorf("reference file has %d of the %d keys to fill in", done, len(values))
	}
	return []byte(strings.Join(lines, "\n")), nil
}

// quote writes a text as YAML that means that text and nothing else.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func optional(s string) string {
	if s == "" {
		return ""
	}
	return quote(s)
}

func quoteList(items []string) string {
	if len(items) == 0 {
		return ""
	}
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
