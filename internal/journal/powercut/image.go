//go:build linux && (amd64 || arm64)

package powercut

import (
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// rootID is what the kernel calls the root.
const rootID = 1

// image is the disk and, in front of it, what the file system still holds back.
type image struct {
	nodes map[uint64]*node
	last  uint64 // id given last; none is given twice

	// names lists changes of directories that no fsync has covered, in order.
	names []rename

	// ordered says how directories behave, see Plan.Ordered.
	ordered bool
}

// node is a file or a directory: as processes see it, and as a cut leaves it.
type node struct {
	id       uint64
	mode     uint32 // with the file type
	mtime    time.Time
	reserved int64 // bytes, by fallocate

	now, kept content
	pending   []change // from kept to now

	entries, keptEntries map[string]uint64
}

func (n *node) dir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// rename is one change of names that happens wholly or not at all.
type rename []entry

// entry gives a name to a node, or to none.
type entry struct {
	dir  uint64
	name string
	node uint64 // zero: the name is gone
}

func newImage() *image {
	return &image{last: rootID, nodes: map[uint64]*node{rootID: {
		id: rootID, mode: syscall.S_IFDIR | 0o755, mtime: time.Now(),
		entries: map[string]uint64{}, keptEntries: map[string]uint64{},
	}}}
}

func (im *image) add(mode uint32) *node {
	im.last++
	n := &node{id: im.last, mode: mode, mtime: time.Now()}
	if n.dir() {
		n.entries, n.keptEntries = map[string]uint64{}, map[string]uint64{}
	}
	im.nodes[n.id] = n
	return n
}

// change changes a file for all to see; it is not durable yet.
func (im *image) change(n *node, ch change) {
	n.now.apply(ch)
	n.pending = append(n.pending, ch)
	n.mtime = time.Now()
}

// rename changes names for all to see; they are not durable yet.
func (im *image) rename(entries ...entry) {
	for _, e := range entries {
		d := im.nodes[e.dir]
		set(d.entries, e)
		d.mtime = time.Now()
	}
	im.names = append(im.names, entries)
}

func set(names map[string]uint64, e entry) {
	if e.node == 0 {
		delete(names, e.name)
	} else {
		names[e.name] = e.node
	}
}

// sync makes a file durable or, for a directory, its names.
func (im *image) sync(n *node) {
	if n.dir() {
		im.keepNames(func(e entry) bool { return e.dir == n.id })
		return
	}
	for _, ch := range n.pending {
		n.kept.apply(ch)
	}
	n.pending = nil
	if im.ordered {
		im.keepNames(func(e entry) bool { return e.node == n.id })
	}
}

// keepNames makes the changes of names durable that touch what is asked for,
// and, where the file system keeps their order, all before them.
func (im *image) keepNames(asked func(entry) bool) {
	if im.ordered {
		for i, r := range slices.Backward(im.names) {
			if slices.ContainsFunc(r, asked) {
				for _, r := range im.names[:i+1] {
					im.keep(r)
				}
				im.names = slices.Delete(im.names, 0, i+1)
				return
			}
		}
		return
	}
	im.names = slices.DeleteFunc(im.names, func(r rename) bool {
		if !slices.ContainsFunc(r, asked) {
			return false
		}
		im.keep(r)
		return true
	})
}

func (im *image) keep(r rename) {
	for _, e := range r {
		set(im.nodes[e.dir].keptEntries, e)
	}
}

// losses counts what a cut did to changes that were not durable.
type losses struct {
	Kept, Torn, Lost int
}

// cut takes the power away: of what is not durable some survives, and what
// survived is all there is from then on.
func (im *image) cut(rnd *rand.Rand) losses {
	var l losses
	for _, id := range slices.Sorted(maps.Keys(im.nodes)) {
		im.nodes[id].cut(rnd, &l)
	}
	chosen := choose(rnd, len(im.names), im.ordered)
	for i, r := range im.names {
		if chosen(i) {
			im.keep(r)
			l.Kept++
		} else {
			l.Lost++
		}
	}
	im.names = nil

	reached := map[uint64]*node{}
	var reach func(id uint64)
	reach = func(id uint64) {
		n := im.nodes[id]
		if reached[id] != nil {
			return
		}
		reached[id] = n
		n.entries = maps.Clone(n.keptEntries)
		for _, e := range n.keptEntries {
			reach(e)
		}
	}
	reach(rootID)
	im.nodes = reached
	return l
}

// choose says which of n changes survive: none, all, the first few, or any.
func choose(rnd *rand.Rand, n int, ordered bool) func(i int) bool {
	first := rnd.IntN(n + 1)
	some := make([]bool, n)
	for i := range some {
		some[i] = rnd.IntN(2) == 0
	}
	switch kind := rnd.IntN(6); {
	case kind == 0:
		return func(int) bool { return false }
	case kind == 1:
		return func(int) bool { return true }
	case kind <= 3 || ordered:
		return func(i int) bool { return i < first }
	}
	return func(i int) bool { return some[i] }
}

func (n *node) cut(rnd *rand.Rand, l *losses) {
	if len(n.pending) > 0 {
		chosen := choose(rnd, len(n.pending), false)
		tear := rnd.IntN(2) == 0
		for i, ch := range n.pending {
			switch {
			case !chosen(i):
				l.Lost++
			case tear && len(ch.data) > sectorSize && rnd.IntN(2) == 0:
				l.Torn++
				n.tear(rnd, ch)
			default:
				l.Kept++
				n.kept.apply(ch)
			}
		}
	}
	n.pending = nil
	n.now = n.kept.clone()
}

// tear writes some sectors of a change.
func (n *node) tear(rnd *rand.Rand, ch change) {
	var sectors []change
	for at := 0; at < len(ch.data); {
		end := min(len(ch.data), at+sectorSize-int(ch.off+int64(at))%sectorSize)
		sectors = append(sectors, change{ch.off + int64(at), ch.data[at:end]})
		at = end
	}
	chosen := choose(rnd, len(sectors), false)
	for i, s := range sectors {
		if chosen(i) {
			n.kept.apply(s)
		}
	}
}

// copy returns an image of what processes see, which nobody changes any more.
func (im *image) copy() *image {
	c := &image{nodes: map[uint64]*node{}}
	for id, n := range im.nodes {
		same := &node{id: id, mode: n.mode, mtime: n.mtime, reserved: n.reserved, now: n.now.clone()}
		same.entries = maps.Clone(n.entries)
		c.nodes[id] = same
	}
	return c
}
