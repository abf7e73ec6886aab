package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/config"
)

// checkChanged wants a configuration in which path was given, and also what that
// needs, to differ from the one before by these, and by what follows from path.
func checkChanged(t *testing.T, path string, also []string, after config.Config) {
	t.Helper()
	flags := map[string]string{"box.venue": "venue_1", "auth.access_token_secret": secret}
	before, err := config.Load("", environment{}.lookup, flags)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{path}, also...)
	switch {
	case path == "box.venue":
		want = append(want, "uplink.prefix")
	case path == "state_dir":
		want = append(want, "socket")
	case strings.HasSuffix(path, "_secret_file"), strings.HasSuffix(path, "password_file"), path == "redis.url_file", path == "uplink.proxy_file":
		want = append(want, strings.TrimSuffix(path, "_file"))
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(config.Changed(before, after)))
	if !slices.Equal(got, want) {
		t.Errorf("%s was changed; named as changed: %v, want %v", path, got, want)
	}
	if same := config.Changed(after, after); len(same) > 0 {
		t.Errorf("nothing was changed; named as changed: %v", same)
	}
}
