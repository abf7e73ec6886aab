//go:build linux && (amd64 || arm64)

package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if served, err := Main(); served {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newDisk starts a disk that lives as long as the test, and makes a place to
// mount it.
func newDisk(t *testing.T) (*Disk, string) {
	t.Helper()
	dir := t.TempDir() // to be removed behind the disk
	d, err := Start()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close disk: %v", err)
		}
	})
	return d, dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, d.Sync(), d.Close())
}

// TestForgets changes a disk in one way, cuts the power with many seeds, and
// compares all that was found afterwards to what may be found.
func TestForgets(t *testing.T) {
	const old, younger = "old", "new"
	for name, c := range map[string]struct {
		do      func(t *testing.T, dir string) // finds the file a with "old", durable
		strict  []string                       // that there may be, and there must be each
		ordered []string
	}{
		"write": {
			func(t *testing.T, dir string) { must(t, overwrite(dir, "a", younger, false)) },
			[]string{"a=new", "a=old"},
			[]string{"a=new", "a=old"},
		},
		"write and fsync": {
			func(t *testing.T, dir string) { must(t, overwrite(dir, "a", younger, true)) },
			[]string{"a=new"},
			[]string{"a=new"},
		},
		"create": {
			func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, "b"), []byte(old), 0o600)) },
			[]string{"a=old", "a=old b=", "a=old b=old"},
			[]string{"a=old", "a=old b=", "a=old b=old"},
		},
		"create and fsync the file": {
			func(t *testing.T, dir string) {
				must(t, os.WriteFile(filepath.Join(dir, "b"), nil, 0o600), overwrite(dir, "b", younger, true))
			},
			[]string{"a=old", "a=old b=new"},
			[]string{"a=old b=new"},
		},
		"create and fsync the directory": {
			func(t *testing.T, dir string) {
				must(t, os.WriteFile(filepath.Join(dir, "b"), []byte(old), 0o600))
				syncDir(t, dir)
			},
			[]string{"a=old b=", "a=old b=old"},
			[]string{"a=old b=", "a=old b=old"},
		},
		"rename": {
			func(t *testing.T, dir string) { must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b"))) },
			[]string{"a=old", "b=old"},
			[]string{"a=old", "b=old"},
		},
		"rename and fsync": {
			func(t *testing.T, dir string) {
				must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
				syncDir(t, dir)
			},
			[]string{"b=old"},
			[]string{"b=old"},
		},
		"remove": {
			func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "a"))) },
			[]string{"", "a=old"},
			[]string{"", "a=old"},
		},
		"truncate": {
			func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "a"), 1)) },
			[]string{"a=o", "a=old"},
			[]string{"a=o", "a=old"},
		},
		"two directories": {
			func(t *testing.T, dir string) {
				must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700), os.Mkdir(filepath.Join(dir, "e"), 0o700))
			},
			[]string{"a=old", "a=old d/", "a=old d/ e/", "a=old e/"},
			[]string{"a=old", "a=old d/", "a=old d/ e/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, dir := newDisk(t)
			for _, ordered := range []bool{false, true} {
				found := map[string]bool{}
				for seed := range uint64(40) {
					must(t, d.Format(dir, Plan{Seed: seed, Ordered: ordered}))
					must(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600), overwrite(dir, "a", old, true))
					syncDir(t, dir)
					c.do(t, dir)
					_, err := d.Cut()
					must(t, err, d.Mount(dir, Plan{}))
					found[list(t, dir)] = true
					_, err = d.Cut()
					must(t, err)
				}
				want := c.strict
				if ordered {
					want = c.ordered
				}
				for _, w := range want {
					if !found[w] {
						t.Errorf("ordered %t: never found %q", ordered, w)
					}
					delete(found, w)
				}
				if len(found) > 0 {
					t.Errorf("ordered %t: found %v", ordered, found)
				}
			}
		})
	}
}

func overwrite(dir, name, text string, sync bool) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close())
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var words []string
	for _, e := range entries {
		if e.IsDir() {
			words = append(words, e.Name()+"/")
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		words = append(words, e.Name()+"="+string(text))
	}
	return string(bytes.Join(slices.Collect(func(yield func([]byte) bool) {
		for _, w := range words {
			if !yield([]byte(w)) {
				return
			}
		}
	}), []byte(" ")))
}

// TestTears writes one large block over another: sectors survive one by one.
func TestTears(t *testing.T) {
	d, dir := newDisk(t)
	path := filepath.Join(dir, "a")
	const sectors = 32
	whole, torn := 0, 0
	for seed := range uint64(40) {
		must(t, d.Format(dir, Plan{Seed: seed}))
		must(t, os.WriteFile(path, bytes.Repeat([]byte("a"), sectors*sectorSize), 0o600))
		must(t, overwrite(dir, "a", "", true))
		syncDir(t, dir)
		must(t, overwrite(dir, "a", string(bytes.Repeat([]byte("b"), sectors*sectorSize)), false))
		_, err := d.Cut()
		must(t, err, d.Mount(dir, Plan{}))
		data, err := os.ReadFile(path)
		must(t, err)
		if len(data) != sectors*sectorSize {
			t.Fatalf("%d bytes", len(data))
		}
		news := 0
		for sector := range slices.Chunk(data, sectorSize) {
			n := bytes.Count(sector, []byte("b"))
			if n != 0 && n != sectorSize {
				t.Fatal("a sector is torn")
			}
			news += n / sectorSize
		}
		if news == 0 || news == sectors {
			whole++
		} else {
			torn++
		}
		_, err = d.Cut()
		must(t, err)
	}
	if whole == 0 || torn == 0 {
		t.Fatalf("%d whole, %d torn", whole, torn)
	}
}

// TestAfterTheCut looks at a process that lives on: it reads, through a
// mapping too, and every change fails.
func TestAfterTheCut(t *testing.T) {
	d, dir := newDisk(t)
	must(t, d.Format(dir, Plan{Step: 6}))
	f, err := os.Create(filepath.Join(dir, "a"))
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(2*blockSize))
	mapped, err := syscall.Mmap(int(f.Fd()), 0, 2*blockSize, syscall.PROT_READ, syscall.MAP_SHARED)
	must(t, err)
	defer func() { must(t, syscall.Munmap(mapped)) }()
	for _, text := range []string{"one", "two"} { // steps 3 to 6
		_, err := f.WriteAt([]byte(text), blockSize)
		must(t, err)
		if got := string(mapped[blockSize : blockSize+3]); got != text {
			t.Fatalf("mapped %q, wrote %q", got, text)
		}
		if err := f.Sync(); (err != nil) != (text == "two") {
			t.Fatalf("sync of %q: %v", text, err)
		}
	}
	_, writeErr := f.WriteAt([]byte("x"), 0)
	for what, err := range map[string]error{
		"write":    writeErr,
		"sync":     f.Sync(),
		"truncate": f.Truncate(0),
		"create":   os.WriteFile(filepath.Join(dir, "b"), nil, 0o600),
		"rename":   os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")),
		"remove":   os.Remove(filepath.Join(dir, "a")),
		"mkdir":    os.Mkdir(filepath.Join(dir, "d"), 0o700),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r, err := d.Cut()
	must(t, err)
	if !r.Early || r.Steps != 6 || r.Syncs != 2 {
		t.Errorf("report %+v", r)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still mounted: %q, %v", text, err)
	}
	if string(mapped[blockSize:blockSize+3]) != "two" {
		t.Error("what was mapped is gone")
	}
}
