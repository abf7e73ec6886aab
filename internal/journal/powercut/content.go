//go:build linux && (amd64 || arm64)

package powercut

import "maps"

const (
	blockSize  = 4096
	sectorSize = 512 // what a disk writes wholly or not at all
)

// content is what a file holds: a size, and the blocks that were written.
type content struct {
	size   int64
	blocks map[int64]*[blockSize]byte
}

func (c *content) clone() content {
	blocks := maps.Clone(c.blocks)
	for i, b := range blocks {
		same := *b
		blocks[i] = &same
	}
	return content{c.size, blocks}
}

func (c *content) read(off int64, into []byte) int {
	n := int(max(min(int64(len(into)), c.size-off), 0))
	for done := 0; done < n; {
		at := off + int64(done)
		part := into[done:min(n, done+int(blockSize-at%blockSize))]
		if b := c.blocks[at/blockSize]; b != nil {
			copy(part, b[at%blockSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return n
}

func (c *content) write(off int64, data []byte) {
	c.size = max(c.size, off+int64(len(data)))
	for len(data) > 0 {
		b := c.blocks[off/blockSize]
		if b == nil {
			b = new([blockSize]byte)
			if c.blocks == nil {
				c.blocks = map[int64]*[blockSize]byte{}
			}
			c.blocks[off/blockSize] = b
		}
		n := copy(b[off%blockSize:], data)
		off, data = off+int64(n), data[n:]
	}
}

func (c *content) truncate(size int64) {
	for i, b := range c.blocks {
		switch from := i * blockSize; {
		case from >= size:
			delete(c.blocks, i)
		case from+blockSize > size:
			clear(b[size-from:])
		}
	}
	c.size = size
}

// change is one write to a file, or with no data a change of its size to off.
type change struct {
	off  int64
	data []byte
}

func (c *content) apply(ch change) {
	if ch.data == nil {
		c.truncate(ch.off)
	} else {
		c.write(ch.off, ch.data)
	}
}
