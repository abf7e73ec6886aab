package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// AccessError says that the journal's files cannot be used as this process
// needs them, and what to do about it. It is never damage.
type AccessError struct {
	Path     string
	ReadOnly bool   // its file system is read-only; else the owner is wrong
	Owner    string // of Path; empty: unknown
	Runs     string // the user of this process
	Err      error
}

// Error names the path, what is wrong with it and the remedy.
func (e *AccessError) Error() string {
	if e.ReadOnly {
		return fmt.Sprintf("%s is on a read-only file system: a disk that reported errors is mounted so, see dmesg; "+
			"check the disk, then mount -o remount,rw: %v", e.Path, e.Err)
	}
	text := e.Path + " is not accessible"
	if e.Owner != "" {
		text = fmt.Sprintf("%s belongs to user %s", e.Path, e.Owner)
	}
	return fmt.Sprintf("%s, this process runs as user %s: run it as the owner, or chown -R the state directory: %v", text, e.Runs, e.Err)
}

// Unwrap returns what the kernel said.
func (e *AccessError) Unwrap() error { return e.Err }

// explain makes an AccessError of an error that is about access; path is what
// it is about if it does not say so itself.
func explain(err error, path string) error {
	_, done := errors.AsType[*AccessError](err)
	readOnly := errors.Is(err, syscall.EROFS)
	if err == nil || done || !readOnly && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		path = at.Path
	}
	path, uid := refuses(path)
	return &AccessError{Path: path, ReadOnly: readOnly, Err: err, Owner: uid, Runs: userName(os.Geteuid())}
}

// refuses returns the path if it can be looked at, else the nearest directory
// above it that can, and who owns it.
func refuses(path string) (nearest, owner string) {
	info, err := os.Stat(path)
	if parent := filepath.Dir(path); err != nil && parent != path {
		return refuses(parent)
	}
	if err != nil {
		return path, ""
	}
	return path, ownerOf(info)
}

func userName(id int) string {
	uid := strconv.Itoa(id)
	if u, err := user.LookupId(uid); err == nil {
		return fmt.Sprintf("%s (%s)", u.Username, uid)
	}
	return uid
}
