package spec

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// TestEveryKindIsDescribed: a kind without a schema fails, and so does a schema
// without a kind, a member of an unknown type, and one that is promised only.
func TestEveryKindIsDescribed(t *testing.T) {
	if _, err := Load(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, old, new, want string }{
		{"events/orders.yaml", "\nvenue_update:", "\nvenue_updated:", "venue_update has no schema"},
		{"events/orders.yaml", "\nvenue_update:", "\nvenue_updated:", "venue_updated is described and not in the catalogue"},
		{"events/orders.yaml", "shiftId: Id —", "shiftId: Idd —", `unknown type "Idd"`},
		{"events/orders.yaml", "must: [shiftId]", "must: [shift]", "shift must be there and is not described"},
		{"events/alerts.yaml", "\nnotification_new:", "\nsystem_alert: {}\nnotification_new:", ""},
	} {
		if err := loadWith(t, c.file, c.old, c.new); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// loadWith loads the files with one text in one of them replaced.
func loadWith(t *testing.T, file, before, after string) error {
	t.Helper()
	changed := fstest.MapFS{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if name == file {
			mended := bytes.Replace(text, []byte(before), []byte(after), 1)
			if bytes.Equal(mended, text) {
				t.Fatalf("%s holds no %q", name, before)
			}
			text = mended
		}
		changed[name] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = load(changed)
	return err
}
