//go:build unix

package backup

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// OwnerOf names the owner of a file; empty: not known.
func OwnerOf(path string) (owner, group string) {
	info, err := os.Stat(path)
	if err != nil {
		return "", ""
	}
	return ownerOf(info)
}

// ownerOf names the owner of a file. Numbers mean something else on another
// machine.
func ownerOf(info fs.FileInfo) (owner, group string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	if u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10)); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(strconv.FormatUint(uint64(st.Gid), 10)); err == nil {
		group = g.Name
	}
	return owner, group
}

// Own gives a file, or a folder with all in it, to a user and a group, as far
// as this process may and the machine has them: a service that finds it
// otherwise says what to do.
func Own(path, owner, group string) {
	uid, gid := -1, -1
	if u, err := user.Lookup(owner); err == nil {
		uid, _ = strconv.Atoi(u.Uid)
	}
	if g, err := user.LookupGroup(group); err == nil {
		gid, _ = strconv.Atoi(g.Gid)
	}
	if uid == -1 && gid == -1 {
		return
	}
	_ = filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_ = os.Lchown(path, uid, gid)
		}
		return nil
	})
}
