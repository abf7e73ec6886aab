package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// device is the block device under a folder.
type device struct {
	name string
	fs   string
	stat string // its counters, in /sys
	dir  string
}

func findDevice(dir string) (device, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Stat(dir, &st); err != nil {
		return device{}, err
	}
	if err := unix.Statfs(dir, &fs); err != nil {
		return device{}, err
	}
	kind := map[uint32]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.XFS_SUPER_MAGIC: "xfs",
		unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	}[uint32(fs.Type)]
	if uint32(fs.Type) == unix.TMPFS_MAGIC {
		return device{}, fmt.Errorf("%s is in memory: nothing there is durable", dir)
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	d := device{name: "without counters", fs: kind, dir: dir}
	if path, err := filepath.EvalSymlinks(sys); err == nil {
		d.name, d.stat = filepath.Base(path), filepath.Join(path, "stat")
	}
	return d, nil
}

// written returns how many bytes have reached the device, from anyone: the
// file system's own journal counts, and so do neighbours. Zero if it does not
// say.
func (d device) written() int64 {
	text, err := os.ReadFile(d.stat)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 7 {
		return 0
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	if err != nil {
		return 0
	}
	return sectors * 512
}

// settle writes out what the file system still holds back, so that it is
// counted where it belongs.
func (d device) settle() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
