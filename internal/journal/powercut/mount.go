//go:build linux && (amd64 || arm64)

package powercut

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// mounted answers the kernel's requests about an image until the power is cut.
// From then on whatever would change it fails; what is there can still be
// read, so that those who have it open can close it in order.
type mounted struct {
	fuse.RawFileSystem // ENOSYS for what is not below

	mu     sync.Mutex // guards below
	im     *image
	plan   Plan
	rnd    *rand.Rand
	dark   bool
	report Report
}

// step is taken before each change, with mu held. The power may be cut at it:
// then the change happens or not, and the caller is told that it failed.
func (m *mounted) step(sync bool, do func()) fuse.Status {
	if m.dark {
		return fuse.EIO
	}
	m.report.Steps++
	if sync {
		m.report.Syncs++
	}
	if m.report.Steps != m.plan.Step && (!sync || m.report.Syncs != m.plan.Sync) {
		do()
		return fuse.OK
	}
	m.dark, m.report.Early = true, true
	if m.rnd.IntN(2) == 0 {
		do()
	}
	return fuse.EIO
}

func (m *mounted) file(id uint64) *node { return m.im.nodes[id] }

func (n *node) attr(a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink, a.Blksize = n.id, n.mode, 1, blockSize
	a.Size = uint64(n.now.size)
	a.Blocks = uint64(max(int64(len(n.now.blocks))*blockSize, n.reserved)) / sectorSize
	a.SetTimes(&n.mtime, &n.mtime, &n.mtime)
}

func (n *node) entryOut(out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	n.attr(&out.Attr)
}

func (m *mounted) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.file(m.file(h.NodeId).entries[name])
	switch {
	case n == nil && m.dark:
		return fuse.EIO // nobody can look
	case n == nil:
		return fuse.ENOENT
	}
	n.entryOut(out)
	return fuse.OK
}

func (m *mounted) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.file(in.NodeId).attr(&out.Attr)
	return fuse.OK
}

func (m *mounted) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.file(in.NodeId)
	status := fuse.OK
	if size, ok := in.GetSize(); ok {
		status = m.step(false, func() { m.im.change(n, change{off: int64(size)}) })
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
	}
	n.attr(&out.Attr)
	return status
}

// create makes a node under a name that the kernel knows to be free.
func (m *mounted) create(dir uint64, name string, mode uint32, out *fuse.EntryOut) fuse.Status {
	var n *node
	status := m.step(false, func() {
		n = m.im.add(mode)
		m.im.rename(entry{dir, name, n.id})
	})
	if status.Ok() {
		n.entryOut(out)
	}
	return status
}

func (m *mounted) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return m.create(in.NodeId, name, syscall.S_IFREG|in.Mode, &out.EntryOut)
}

func (m *mounted) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.create(in.NodeId, name, syscall.S_IFDIR|in.Mode, out)
}

func (m *mounted) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step(false, func() { m.im.rename(entry{h.NodeId, name, 0}) })
}

func (m *mounted) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.file(m.file(h.NodeId).entries[name]); n != nil && len(n.entries) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	return m.step(false, func() { m.im.rename(entry{h.NodeId, name, 0}) })
}

func (m *mounted) Rename(_ <-chan struct{}, in *fuse.RenameIn, before, after string) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if in.Flags != 0 {
		return fuse.EINVAL
	}
	id := m.file(in.NodeId).entries[before]
	return m.step(false, func() {
		m.im.rename(entry{in.NodeId, before, 0}, entry{in.Newdir, after, id})
	})
}

func (m *mounted) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := m.step(false, func() { m.im.rename(entry{in.NodeId, name, in.Oldnodeid}) })
	m.file(in.Oldnodeid).entryOut(out)
	return status
}

func (m *mounted) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (m *mounted) Read(_ <-chan struct{}, in *fuse.ReadIn, into []byte) (fuse.ReadResult, fuse.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.file(in.NodeId).now.read(int64(in.Offset), into)
	return fuse.ReadResultData(into[:n]), fuse.OK
}

func (m *mounted) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.file(in.NodeId)
	return uint32(len(data)), m.step(false, func() {
		m.im.change(n, change{int64(in.Offset), slices.Clone(data)})
		if in.Flags&(syscall.O_DSYNC|syscall.O_SYNC) != 0 && !m.dark {
			m.im.sync(n)
		}
	})
}

// Fallocate reserves nothing, since there is no end to this disk.
func (m *mounted) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, end := m.file(in.NodeId), int64(in.Offset+in.Length)
	switch in.Mode {
	case 0, unix.FALLOC_FL_KEEP_SIZE:
	default:
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return m.step(false, func() {
		n.reserved = max(n.reserved, end)
		if in.Mode == 0 && end > n.now.size {
			m.im.change(n, change{off: end})
		}
	})
}

func (m *mounted) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (m *mounted) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step(true, func() { m.im.sync(m.file(in.NodeId)) })
}

func (m *mounted) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return m.Fsync(cancel, in)
}

func (m *mounted) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (m *mounted) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := m.file(in.NodeId).entries
	for i, name := range slices.Sorted(maps.Keys(entries)) {
		n := m.file(entries[name])
		if i >= int(in.Offset) &&
			!out.AddDirEntry(fuse.DirEntry{Name: name, Ino: n.id, Mode: n.mode, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}

func (m *mounted) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 4 << 30 / blockSize
	*out = fuse.StatfsOut{
		Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: 1 << 20, Ffree: 1 << 20,
		Bsize: blockSize, Frsize: blockSize, NameLen: 255,
	}
	return fuse.OK
}

func (m *mounted) String() string { return "powercut" }
