package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// passing matches names in a state directory that are not the box's state:
// what a power cut left of a file being replaced, and what was kept aside.
var passing = regexp.MustCompile(`\.[0-9]+$|\.before-|\.tmp$`)

// State reads the small files of a state directory. Folders, among them the
// journal, sockets, and what is under way or was kept aside are left out. It
// may be called while the box runs, which replaces its files whole.
func State(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []File
	for _, e := range entries {
		if !e.Type().IsRegular() || passing.MatchString(e.Name()) {
			continue
		}
		f, err := read(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f.Path, f.State = e.Name(), true
		list = append(list, f)
	}
	return list, nil
}

// Named reads files by their paths.
func Named(paths []string) ([]File, error) {
	list := make([]File, 0, len(paths))
	for _, path := range paths {
		f, err := read(path)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func read(path string) (File, error) {
	in, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return File{}, err
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return File{}, err
	}
	if len(data) > maxFile {
		return File{}, fmt.Errorf("%s is larger than 1 MiB, which no file of a box is", path)
	}
	owner, group := ownerOf(info)
	return File{Path: path, Mode: info.Mode().Perm(), Owner: owner, Group: group, Data: data}, nil
}
