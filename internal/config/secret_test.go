package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/configs"
	"github.com/avoqado/avoqado-edge/internal/config"
)

const kept = "a secret kept in a file"

// onlyVenue is a file that leaves the secret to others.
const onlyVenue = "box: {venue: venue_1}\n"

func TestSecretFromFileLosesOneLineBreak(t *testing.T) {
	for content, want := range map[string]string{
		kept:            kept,
		kept + "\n":     kept,
		kept + "\r\n":   kept,
		kept + "\n\n":   kept + "\n",
		" " + kept + "": " " + kept,
	} {
		path := writeAs(t, "secret", content, 0o640)
		c := load(t, onlyVenue+"auth: {access_token_secret_file: "+path+"}\n", nil, nil)
		if got := c.Auth.AccessTokenSecret.Reveal(); got != want {
			t.Errorf("%q became %q", content, got)
		}
		if l := effective(t, c, "auth.access_token_secret"); l.Origin != "config.yaml:2 ("+path+")" {
			t.Errorf("comes from %s", l.Origin)
		}
		c = load(t, onlyVenue, environment{"ACCESS_TOKEN_SECRET_FILE": path}, nil)
		if got := c.Auth.AccessTokenSecret.Reveal(); got != want {
			t.Errorf("%q became %q through the environment", content, got)
		}
	}
}

func TestSecretCredential(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	put("access_token_secret", kept+"\n")
	put("access_token_secret_previous", "UNSET")
	put("mqtt_password", "pw")
	c := load(t, onlyVenue+"uplink: {username: u}\n",
		environment{"CREDENTIALS_DIRECTORY": dir, "ACCESS_TOKEN_SECRET": secret}, nil)
	if c.Auth.AccessTokenSecret.Reveal() != kept || c.Auth.PreviousSecret != "" || c.Uplink.Password.Reveal() != "pw" {
		t.Errorf("got %s %s %s", c.Auth.AccessTokenSecret.Reveal(), c.Auth.PreviousSecret.Reveal(), c.Uplink.Password.Reveal())
	}
	if l := effective(t, c, "uplink.password"); !strings.HasPrefix(l.Origin, "credential mqtt_password") {
		t.Errorf("comes from %s", l.Origin)
	}
}

func TestEmptySecretIsNone(t *testing.T) {
	path := writeAs(t, "secret", kept, 0o600)
	c := load(t, onlyVenue+"auth: {access_token_secret: '', access_token_secret_file: "+path+"}\n", nil, nil)
	if c.Auth.AccessTokenSecret.Reveal() != kept {
		t.Errorf("got %q", c.Auth.AccessTokenSecret.Reveal())
	}
}

func TestStrongerSecretNeedsNoWeakerFile(t *testing.T) {
	c := load(t, onlyVenue+"auth: {access_token_secret_file: /nowhere/secret}\n",
		environment{"ACCESS_TOKEN_SECRET": secret}, nil)
	if c.Auth.AccessTokenSecret.Reveal() != secret {
		t.Errorf("got %q", c.Auth.AccessTokenSecret.Reveal())
	}
}

func TestSecretProblems(t *testing.T) {
	held := writeAs(t, "secret", kept, 0o600)
	open := writeAs(t, "open", kept, 0o644)
	empty := writeAs(t, "empty", "\n", 0o600)
	short := writeAs(t, "short", "short", 0o600)
	openConfig := writeAs(t, "config.yaml", base, 0o644)
	openWithout := writeAs(t, "config.yaml", onlyVenue, 0o644)
	direct := write(t, onlyVenue)

	for name, c := range map[string]struct {
		path string
		env  environment
		want string
	}{
		"NAME and NAME_FILE": {
			direct,
			environment{"ACCESS_TOKEN_SECRET": secret, "ACCESS_TOKEN_SECRET_FILE": held},
			"environment ACCESS_TOKEN_SECRET_FILE: auth.access_token_secret: is set, and so is ACCESS_TOKEN_SECRET; only one may be",
		},
		"both in the file": {
			write(t, onlyVenue+"auth:\n  access_token_secret: "+secret+"\n  access_token_secret_file: "+held+"\n"), nil,
			"config.yaml:4: auth.access_token_secret_file: is set, and so is auth.access_token_secret; only one may be",
		},
		"two names that differ": {
			direct,
			environment{"ACCESS_TOKEN_SECRET": secret, "AVOQADO_EDGE_AUTH_ACCESS_TOKEN_SECRET": kept},
			"differs from AVOQADO_EDGE_AUTH_ACCESS_TOKEN_SECRET; only one may be set",
		},
		"file everyone can read":   {direct, environment{"ACCESS_TOKEN_SECRET_FILE": open}, "can be read by everyone"},
		"config everyone can read": {openConfig, nil, "config.yaml:2: auth.access_token_secret: is a secret in a file everyone can read"},
		"empty file":               {direct, environment{"ACCESS_TOKEN_SECRET_FILE": empty}, "is empty"},
		"short secret in a file":   {direct, environment{"ACCESS_TOKEN_SECRET_FILE": short}, "is 5 characters long, at least 16 are needed"},
		"no such file":             {direct, environment{"ACCESS_TOKEN_SECRET_FILE": "/nowhere/s"}, "/nowhere/s: no such file"},
		"a folder":                 {direct, environment{"ACCESS_TOKEN_SECRET_FILE": t.TempDir()}, "ACCESS_TOKEN_SECRET_FILE"},
		"relative file":            {write(t, onlyVenue+"auth: {access_token_secret_file: secret}\n"), nil, "does not begin at the root"},
		"no secret at all":         {openWithout, nil, "config.yaml: auth.access_token_secret: is needed"},
		"previous is the same":     {direct, environment{"ACCESS_TOKEN_SECRET": secret, "ACCESS_TOKEN_SECRET_PREVIOUS": secret}, "auth.previous_secret: is the same as"},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, c.path, c.env, nil)
			if len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestSecretInTheFileIsWarnedOf(t *testing.T) {
	c := load(t, base, nil, nil)
	if all := strings.Join(c.Warnings(), "\n"); !strings.Contains(all, "auth.access_token_secret stands in config.yaml itself") {
		t.Errorf("warnings: %s", all)
	}
	path := writeAs(t, "secret", kept, 0o600)
	c = load(t, onlyVenue+"auth: {access_token_secret_file: "+path+"}\nuplink: {brokers: [tls://a]}\n", nil, nil)
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %s", w)
	}
}

func TestPlaceholdersAreWarnedOf(t *testing.T) {
	for secret, warned := range map[string]bool{
		"changeme-changeme": true, "CHANGE_ME_0123456789": true, "your-256-bit-secret": true, "aaaaaaaaaaaaaaaa": true, "0000000011111111": true,
		"${ACCESS_TOKEN_SECRET}": true, "<the secret of the back-end>": true, "replace this, please": true,
		"d41d8cd98f00b204e9800998ecf8427e": false, "Zm9vIGJhciBiYXogcXV4": false, "correct horse battery staple": false,
	} {
		c := load(t, onlyVenue+"uplink: {brokers: [tls://a]}\n", environment{"ACCESS_TOKEN_SECRET": secret}, nil)
		all := strings.Join(c.Warnings(), "\n")
		if got := strings.Contains(all, "auth.access_token_secret looks like a placeholder"); got != warned || strings.Contains(all, secret) {
			t.Errorf("%s: warnings: %s", secret, all)
		}
	}
}

func TestInit(t *testing.T) {
	file, secret, err := config.Init(config.Answers{
		Venue: "venue_9", Name: "Joe's 'box' #1", Brokers: []string{"tls://a.example:8883"},
		SecretFile: "/etc/avoqado-edge/secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(file), strings.TrimSpace(string(secret))) {
		t.Error("the configuration holds the secret")
	}
	if lines := strings.Count(string(file), "\n"); lines != strings.Count(string(configs.Reference), "\n") {
		t.Errorf("%d lines: the comments are lost", lines)
	}
	c := load(t, string(file), environment{"ACCESS_TOKEN_SECRET": strings.TrimSuffix(string(secret), "\n")}, nil)
	if c.Box.Venue != "venue_9" || c.Box.Name != "Joe's 'box' #1" || c.Box.ID != "" ||
		len(c.Uplink.Brokers) != 1 || c.Uplink.Brokers[0] != "tls://a.example:8883" ||
		c.Auth.AccessTokenSecretFile != "/etc/avoqado-edge/secret" {
		t.Errorf("got %+v", c)
	}
	if len(c.Auth.AccessTokenSecret) < 32 {
		t.Errorf("the fresh secret is %d characters long", len(c.Auth.AccessTokenSecret))
	}
	_, again, err := config.Init(config.Answers{Venue: "v", SecretFile: "/s"})
	if err != nil || string(again) == string(secret) {
		t.Errorf("the secret is not fresh: %v", err)
	}
	_, given, err := config.Init(config.Answers{Venue: "v", SecretFile: "/s", Secret: kept})
	if err != nil || string(given) != kept+"\n" {
		t.Errorf("the given secret became %q: %v", given, err)
	}
}

func TestInitRefuses(t *testing.T) {
	for name, a := range map[string]config.Answers{
		"no venue":     {SecretFile: "/s"},
		"bad venue":    {Venue: "a/b", SecretFile: "/s"},
		"bad id":       {Venue: "v", ID: "a b", SecretFile: "/s"},
		"bad broker":   {Venue: "v", Brokers: []string{"nonsense"}, SecretFile: "/s"},
		"short secret": {Venue: "v", Secret: "short", SecretFile: "/s"},
		"no file":      {Venue: "v"},
		"relative":     {Venue: "v", SecretFile: "s"},
	} {
		if _, _, err := config.Init(a); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
