package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() (Head, []File, []byte) {
	head := Head{Box: "b1", Venue: "v1", Made: time.Unix(1e9, 0).UTC(), StateDir: "/var/lib/x", Config: "/etc/x/config.yaml"}
	return head, []File{
		{Path: "identity.key", State: true, Mode: 0o600, Data: []byte("key")},
		{Path: "box.json", State: true, Mode: 0o600, Data: []byte("id")},
		{Path: "/etc/x/config.yaml", Mode: 0o644, Data: []byte("config")},
		{Path: "/etc/x/secret", Mode: 0o600, Data: []byte("secret")},
	}, bytes.Repeat([]byte("journal "), maxFile/3) // several parts
}

func written(t *testing.T) []byte {
	t.Helper()
	head, files, journal := sample()
	var out bytes.Buffer
	if err := Write(&out, head, files, func(w io.Writer) error {
		for part := range slices.Chunk(journal, 70_001) {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWholeWayRound(t *testing.T) {
	head, files, journal := sample()
	b, err := Open(bytes.NewReader(written(t)))
	if err != nil {
		t.Fatal(err)
	}
	head.Format = format
	if b.Head != head || len(b.Files) != len(files) {
		t.Fatalf("%+v, %d files", b.Head, len(b.Files))
	}
	for i, f := range b.Files {
		if f.Path != files[i].Path || f.State != files[i].State || f.Mode != files[i].Mode || !bytes.Equal(f.Data, files[i].Data) {
			t.Errorf("%+v became %+v", files[i], f)
		}
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, journal) {
		t.Errorf("the journal has %d bytes of %d: %v", len(got), len(journal), err)
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

// again writes the entries of a backup as change says; nil leaves one out.
func again(t *testing.T, raw []byte, change func(tar.Header, []byte) (*tar.Header, []byte)) []byte {
	t.Helper()
	in, out := tar.NewReader(bytes.NewReader(raw)), bytes.Buffer{}
	w := tar.NewWriter(&out)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		data, _ := io.ReadAll(in)
		to, data := change(*h, data)
		if to == nil {
			continue
		}
		to.Size = int64(len(data))
		if err := w.WriteHeader(to); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What was changed, with a tool or by hand, is named; nothing leads outside.
func TestWhatWasChangedIsNamed(t *testing.T) {
	raw := written(t)
	rename := func(from, to string) []byte {
		return again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == from {
				h.Name = to
			}
			return &h, data
		})
	}
	without := func(name string) []byte {
		return again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == name {
				return nil, nil
			}
			return &h, data
		})
	}
	edited := func(name string) []byte {
		return again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == name {
				data = append(bytes.Clone(data), '!')
			}
			return &h, data
		})
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":                 {nil, "does not begin as one"},
		"another file":          {[]byte("box: {venue: v1}\n"), "does not begin as one"},
		"key edited":            {edited("state/identity.key"), "state/identity.key was changed"},
		"config edited":         {edited("files/etc/x/config.yaml"), "files/etc/x/config.yaml was changed"},
		"last part edited":      {edited("journal/00000003.gz"), "journal/00000003.gz was changed"},
		"a file left out":       {without("files/etc/x/secret"), "was changed"},
		"a part left out":       {without("journal/00000002.gz"), `"journal/00000003.gz" stands where`},
		"sums left out":         {without("SHA256SUMS"), "cut short"},
		"journal left out":      {without("journal/00000001.gz"), "not a box's"},
		"leads out of the dir":  {rename("state/identity.key", "state/../../etc/shadow"), "not a box's"},
		"leads up":              {rename("files/etc/x/secret", "files/etc/../shadow"), "not a box's"},
		"a folder in the state": {rename("state/identity.key", "state/journal/meta.db"), "not a box's"},
		"renamed":               {rename("files/etc/x/secret", "files/etc/x/other"), "files/etc/x/other was changed"},
		"a link": {again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == "state/identity.key" {
				h.Typeflag, h.Linkname, data = tar.TypeSymlink, "/etc/shadow", nil
			}
			return &h, data
		}), "not as a box writes it"},
		"too large": {again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == "state/identity.key" {
				data = make([]byte, maxFile+1)
			}
			return &h, data
		}), "not as a box writes it"},
	} {
		b, err := Open(bytes.NewReader(c.raw))
		if err == nil {
			err = b.Verify()
		}
		if !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := again(t, raw, func(h tar.Header, data []byte) (*tar.Header, []byte) {
		return &h, bytes.Replace(data, []byte(`"format": 1`), []byte(`"format": 2`), 1)
	})
	if _, err := Open(bytes.NewReader(newer)); !errors.Is(err, ErrNewer) {
		t.Errorf("newer: %v", err)
	}
	for cut := 0; cut < len(raw)-1024; cut += 4_099 {
		b, err := Open(bytes.NewReader(raw[:cut]))
		if err == nil {
			err = b.Verify()
		}
		if !errors.Is(err, ErrBackup) {
			t.Fatalf("cut at %d of %d: %v", cut, len(raw), err)
		}
	}
}

func TestPlace(t *testing.T) {
	root := t.TempDir()
	head, files, _ := sample()
	for i := range files {
		if !files[i].State {
			files[i].Path = filepath.Join(root, files[i].Path)
		}
	}
	head.Config = files[2].Path
	b := &Backup{Head: head, Files: files}
	p := Place{StateDir: filepath.Join(root, "state"), First: "box.json", Own: "clock.json", Now: time.Unix(0, 0)}
	write := func(want ...string) {
		t.Helper()
		there, err := p.Conflicts(b)
		if err != nil || !slices.Equal(there, want) {
			t.Fatalf("in the way: %v, %v", there, err)
		}
		if aside, err := p.Write(b); err != nil || len(aside) != len(want) {
			t.Fatalf("kept %v, %v", aside, err)
		}
		for path, want := range map[string]string{"state/box.json": "id", "state/identity.key": "key", "etc/x/config.yaml": "config", "etc/x/secret": "secret"} {
			got, err := os.ReadFile(filepath.Join(root, path))
			if err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", path, got, err)
			}
		}
		if info, err := os.Stat(filepath.Join(root, "etc/x/secret")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the secret: %v, %v", info, err)
		}
	}
	write()
	// The same is in nobody's way; a power cut before its rights were given is made good.
	config := filepath.Join(root, "etc/x/config.yaml")
	if err := os.Chmod(config, 0o600); err != nil {
		t.Fatal(err)
	}
	write()
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the configuration: %v, %v", info, err)
	}
	key := filepath.Join(p.StateDir, "identity.key")
	if err := os.WriteFile(key, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(b); err == nil {
		t.Error("it was replaced without leave")
	}
	p.Replace = true
	write(key)
	if old, err := os.ReadFile(key + ".before-19700101T000000"); err != nil || string(old) != "another" {
		t.Errorf("what stood there is %q, %v", old, err)
	}
	if list, err := State(p.StateDir); err != nil || len(list) != 2 {
		t.Errorf("a backup of it takes %v, %v", list, err)
	}
	p.First = "nobody.json"
	if _, err := p.Write(b); !errors.Is(err, ErrBackup) {
		t.Errorf("a backup that does not say whose it is: %v", err)
	}
}
