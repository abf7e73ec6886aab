package journal

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Compacted says what Compact gave back.
type Compacted struct {
	Segments int       `json:"segments"`  // deleted
	Events   uint64    `json:"events"`    // in them
	Bytes    int64     `json:"bytes"`     // that they took on disk
	First    event.Seq `json:"first"`     // oldest event kept now
	Left     int64     `json:"leftBytes"` // that the journal takes now
}

// Compact trims before its time what every cursor has passed and what is older
// than keep, whole segments at a time: the one being written stays, and so does
// what a cursor has not passed. On return the space is free. It may be called
// concurrently with everything else.
func (j *Journal) Compact(keep time.Duration) (Compacted, error) {
	return j.compactWith(keep, nil)
}

func (j *Journal) compactWith(keep time.Duration, p Progress) (Compacted, error) {
	c, err := j.compact(keep, p)
	c.First = j.First()
	c.Left = j.diskBytes() + diskBytes(filepath.Join(j.dir, metaName))
	if c.Segments > 0 {
		j.o.Log.Info("journal compacted", "segments", c.Segments, "bytes", c.Bytes, "first", c.First)
	}
	if err != nil {
		return c, fmt.Errorf("compact journal %s: %w", j.dir, err)
	}
	return c, nil
}

func (j *Journal) compact(keep time.Duration, p Progress) (c Compacted, err error) {
	if keep <= 0 {
		keep = math.MinInt64 // even what a clock that was set back calls young
	}
	j.trimming.Lock()
	defer j.trimming.Unlock()
	for {
		s, last, _ := j.passed()
		if s == nil || s.age(j.o.Now()) <= keep {
			return c, nil
		}
		bytes := diskBytes(s.path)
		if err := j.deleteOldest(s); err != nil {
			return c, err
		}
		c.Segments++
		c.Events += uint64(last + 1 - s.first)
		c.Bytes += bytes
		p.tell(c.Events, 0)
	}
}

// Compact does to the journal of a stopped box what [Journal.Compact] does. It
// opens it as a start would, with the repairs of a start. ErrNoCursor if that
// leaves nobody who is known to have what would go.
func Compact(dir string, keep time.Duration, o Options, p Progress) (Compacted, error) {
	j, err := Open(dir, o)
	if err != nil {
		return Compacted{}, err
	}
	if s, _, followed := j.passed(); s != nil && !followed {
		return Compacted{}, errors.Join(fmt.Errorf("compact journal %s: %w", dir, ErrNoCursor), j.Close())
	}
	c, err := j.compactWith(keep, p)
	return c, errors.Join(err, j.Close())
}
