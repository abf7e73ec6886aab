package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// What bbolt does not check and no panic tells. The layout is bbolt's file
// format 2, in the byte order of the machine; its own Check is of no use here,
// because it follows page numbers out of the mapping in a goroutine that a
// fault ends together with the process.
const (
	pageHeader = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elemSize   = 16 // branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32
	metaSize   = 64 // … root at 16, freelist at 32, pages at 40, txid at 48, FNV-1a at 56

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketElem   = 0x01

	// maxDepth is far more than a segment's two nested trees can have.
	maxDepth = 32
)

var order = binary.NativeEndian

// checkMetas checks both meta pages. bbolt is content with one, which is right
// after a power cut in the middle of a commit; but a meta page lies within one
// sector, so a cut leaves the old or the new one. One that is neither was
// damaged later, and the last commit may have gone with it.
func (f *boltFile) checkMetas() error {
	_, err := newestMeta(f.raw)
	return err
}

// checkFile checks the structure of a bbolt file that nobody writes, without
// opening it as such.
func checkFile(path string) error {
	raw, err := os.Open(path)
	if err != nil {
		return err
	}
	f := boltFile{raw: raw}
	return errors.Join(f.checkPages(), raw.Close())
}

// newestMeta returns the meta that rules, nil if neither is sound. An error
// says that one of them is not.
func newestMeta(f *os.File) (newest []byte, err error) {
	for page := range int64(2) {
		b := make([]byte, pageHeader+metaSize)
		if _, readErr := f.ReadAt(b, page*pageSize); readErr != nil {
			err = fmt.Errorf("%w: meta page %d: %w", ErrDamaged, page, readErr)
			continue
		}
		meta := b[pageHeader:]
		h := fnv.New64a()
		_, _ = h.Write(meta[:56]) // never fails
		if h.Sum64() != order.Uint64(meta[56:]) {
			err = fmt.Errorf("%w: meta page %d", ErrDamaged, page)
			continue
		}
		if newest == nil || order.Uint64(meta[48:]) > order.Uint64(newest[48:]) {
			newest = meta
		}
	}
	return newest, err
}

// checkPages checks that each page is in use once, or free once. It must hold
// before a file is written that an earlier process wrote: bbolt believes its
// list of free pages, and where that is damaged puts new data over old.
func (f *boltFile) checkPages() error {
	meta, err := newestMeta(f.raw)
	if err != nil {
		return err
	}
	info, err := f.raw.Stat()
	if err != nil {
		return err
	}
	root, freelist, pages := order.Uint64(meta[16:]), order.Uint64(meta[32:]), order.Uint64(meta[40:])
	if pages > uint64(info.Size())/pageSize {
		return fmt.Errorf("%w: %d pages in %d bytes", ErrDamaged, pages, info.Size())
	}
	w := pageWalk{f: f.raw, taken: make([]bool, pages)}
	if err := w.tree(root, 0); err != nil {
		return err
	}
	if err := w.free(freelist); err != nil {
		return err
	}
	for id := uint64(2); id < pages; id++ {
		if !w.taken[id] {
			return fmt.Errorf("%w: page %d is neither in use nor free", ErrDamaged, id)
		}
	}
	return nil
}

// pageWalk visits the pages of a file that is not being written.
type pageWalk struct {
	f     *os.File
	taken []bool
}

// take notes that a run of pages has a use; only one is allowed.
func (w *pageWalk) take(id, n uint64) error {
	if id < 2 || n > uint64(len(w.taken)) || id > uint64(len(w.taken))-n {
		return fmt.Errorf("%w: page %d does not exist", ErrDamaged, id)
	}
	for ; n > 0; id, n = id+1, n-1 {
		if w.taken[id] {
			return fmt.Errorf("%w: page %d has two uses", ErrDamaged, id)
		}
		w.taken[id] = true
	}
	return nil
}

// read takes a page with what overflows it, and returns all of it, or the
// first page where that will do.
func (w *pageWalk) read(id uint64, whole func(page []byte) bool) ([]byte, error) {
	if err := w.take(id, 1); err != nil {
		return nil, err
	}
	page := make([]byte, pageSize)
	if _, err := w.f.ReadAt(page, int64(id)*pageSize); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", ErrDamaged, id, err)
	}
	if order.Uint64(page) != id {
		return nil, fmt.Errorf("%w: page %d says it is %d", ErrDamaged, id, order.Uint64(page))
	}
	more := uint64(order.Uint32(page[12:]))
	if more == 0 {
		return page, nil
	}
	if err := w.take(id+1, more); err != nil {
		return nil, err
	}
	if !whole(page) {
		return page, nil
	}
	page = make([]byte, (1+more)*pageSize)
	if _, err := w.f.ReadAt(page, int64(id)*pageSize); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", ErrDamaged, id, err)
	}
	return page, nil
}

// tree visits a bucket's pages and those of the buckets in it.
func (w *pageWalk) tree(id uint64, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: page %d lies too deep", ErrDamaged, id)
	}
	// A leaf with a single value is a batch or a key table, and can be long.
	page, err := w.read(id, func(page []byte) bool {
		return order.Uint16(page[10:]) > 1 || order.Uint32(page[pageHeader:])&bucketElem != 0
	})
	if err != nil {
		return err
	}
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || count == 0 && flags == branchPage ||
		pageHeader+count*elemSize > len(page) {
		return fmt.Errorf("%w: page %d is no branch or leaf", ErrDamaged, id)
	}
	for i := range count {
		at := pageHeader + i*elemSize
		elem := page[at:]
		if flags == branchPage {
			if err := w.tree(order.Uint64(elem[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		if order.Uint32(elem)&bucketElem == 0 {
			continue
		}
		value := uint64(at) + uint64(order.Uint32(elem[4:])) + uint64(order.Uint32(elem[8:]))
		if value+8 > uint64(len(page)) {
			return fmt.Errorf("%w: page %d", ErrDamaged, id)
		}
		if root := order.Uint64(page[value:]); root != 0 { // zero: inline
			if err := w.tree(root, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// free visits the list of free pages.
func (w *pageWalk) free(id uint64) error {
	page, err := w.read(id, func([]byte) bool { return true })
	if err != nil {
		return err
	}
	count, ids := uint64(order.Uint16(page[10:])), page[pageHeader:]
	if count == 0xffff { // too many for the header
		count, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(page[8:]) != freelistPage || count > uint64(len(ids))/8 {
		return fmt.Errorf("%w: page %d is no list of free pages", ErrDamaged, id)
	}
	for i := range count {
		if err := w.take(order.Uint64(ids[i*8:]), 1); err != nil {
			return err
		}
	}
	return nil
}
