package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// What has no room is left out and named, the oldest lines first; what comes
// first in the list stays longest.
func TestPackKeepsToItsBound(t *testing.T) {
	noise := func(lines int) []byte { // which cannot be compressed
		var b bytes.Buffer
		for i := range lines {
			fmt.Fprintf(&b, "%d %s\n", i, rand.Text())
		}
		return b.Bytes()
	}
	parts := []part{
		{name: "status.json", body: noise(20)},
		{name: "log.txt", body: noise(4000), lines: true},
		{name: "one-line.jsonl", body: []byte(strings.Repeat("x", 5000) + "\n"), lines: true},
		{name: "events.jsonl", body: noise(2000), lines: true},
		{name: "goroutines.txt", body: noise(1000)},
	}
	for _, c := range []struct {
		most   int
		whole  []string
		cut    []string
		absent []string
	}{
		{most: 1 << 20, whole: []string{"status.json", "log.txt", "events.jsonl", "goroutines.txt"}},
		{most: 64 << 10, whole: []string{"status.json", "goroutines.txt"}, cut: []string{"log.txt", "events.jsonl"}},
		{most: 6 << 10, whole: []string{"status.json"}, cut: []string{"log.txt", "events.jsonl"}, absent: []string{"goroutines.txt"}},
		{most: 1 << 10, absent: []string{"goroutines.txt", "events.jsonl", "log.txt"}, whole: []string{"status.json"}},
	} {
		b, err := pack(parts, c.most)
		if err != nil || len(b.Archive) > c.most {
			t.Errorf("%d: %d bytes, %v", c.most, len(b.Archive), err)
			continue
		}
		got := filesIn(t, b.Archive)
		said := got["left-out.txt"]
		for _, p := range parts {
			text, there := got[p.name]
			if there && !strings.HasSuffix(string(p.body), text) {
				t.Errorf("%d: %s is not the newest", c.most, p.name)
			}
			named := strings.Contains(said, p.name+": ")
			if whole := len(text) == len(p.body); whole == named {
				t.Errorf("%d: %s has %d of %d bytes, and left-out.txt says %q", c.most, p.name, len(text), len(p.body), said)
			}
		}
		for _, name := range c.whole {
			if strings.Contains(said, name) {
				t.Errorf("%d: %s", c.most, said)
			}
		}
		for _, name := range c.cut {
			if !strings.Contains(said, name+": the older ") {
				t.Errorf("%d: %s is not cut: %s", c.most, name, said)
			}
		}
		for _, name := range c.absent {
			if _, there := got[name]; there {
				t.Errorf("%d: %s is there", c.most, name)
			}
		}
		if len(b.LeftOut) != strings.Count(said, "\n") {
			t.Errorf("%d: %q, %q", c.most, b.LeftOut, said)
		}
	}
	if _, err := pack(parts, 10); err == nil {
		t.Error("ten bytes hold a bundle")
	}
}

func filesIn(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for files := tar.NewReader(zip); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(h.Name, "avoqado-edge/")] = string(body)
	}
}
